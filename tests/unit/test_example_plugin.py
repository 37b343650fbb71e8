"""contrib/example-plugin is what `wgdisco plugin new` writes, and works: built, installed, used, and run by its tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import free_ports, wait_for
from wgdisco.cli import plugin
from wgdisco.cli.main import main

pytestmark = pytest.mark.xdist_group("plugin_wheel")
EXAMPLE = Path(__file__).parents[2] / "contrib" / "example-plugin"


def python(*words: str, cwd: Path, path: str = "") -> str:
    """Run Python in a folder, with another one on its path; its stdout, after making sure that it succeeded."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment = kept | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "no_proxy": "127.0.0.1"}
    command = [sys.executable, *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> str:
    """A folder with the example installed from its wheel."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("target")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(EXAMPLE), cwd=wheels)
    (wheel,) = map(str, wheels.iterdir())
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    python("-m", "pip", "install", *options, "--target", str(target), wheel, cwd=wheels)
    return str(target)


def test_the_example_is_what_the_command_writes() -> None:
    """Of what is in its folder, the files that git knows; `wgdisco plugin new example` makes them anew."""
    written = {
        path.relative_to(EXAMPLE).as_posix() for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml", ".md")
    }
    assert {path: (EXAMPLE / path).read_text() for path in written} == dict(plugin.package("example"))


def test_the_installed_example_passes_its_own_tests(target: str, tmp_path: Path) -> None:
    """The whole contract included, and none of it left out but what no store of its size can be asked."""
    for name in ("tests", "pyproject.toml"):
        (tmp_path / name).symlink_to(EXAMPLE / name)
    told = python(
        "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist", "tests", cwd=tmp_path, path=target
    )
    assert " failed" not in told
    assert told.count("SKIPPED") == told.count("there is no larger value than this store takes") == 1
    assert int(told.splitlines()[-1].split(" passed")[0]) > 25


def test_a_command_uses_the_installed_example(target: str, tmp_path: Path) -> None:
    (port,) = free_ports()
    server = subprocess.Popen([sys.executable, str(EXAMPLE / "tests" / "server.py"), str(port)])
    try:
        wait_for(lambda: answers(port), "the example's server answers")
        (tmp_path / "key").write_text("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=\n")
        (tmp_path / "key").chmod(0o600)
        options = ("--private-key-file", "key", "-b", "example", "-o", f"url=http://127.0.0.1:{port}/records")
        told = python("-m", "wgdisco", "check", *options, cwd=tmp_path, path=target)
    finally:
        server.kill()
        server.wait()
    assert told.splitlines()[-1].startswith("ok   example: put ")


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_says_what_it_wrote_and_what_comes_next(here: Path, capsys) -> None:
    assert main(["plugin", "new", "my-store"]) == 0
    lines = capsys.readouterr().out.splitlines()
    written = [path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()]
    assert sorted(line for line in lines if line.startswith("wgdisco-")) == sorted(written)
    assert [line.strip() for line in lines[-2:]] == ["cd wgdisco-my-store", "python -m pytest"]


@pytest.mark.parametrize(
    ("name", "module", "backend"),
    [("my-store", "wgdisco_my_store", "MyStore"), ("s3", "wgdisco_s3", "S3"), ("none", "wgdisco_none", "NoneStore")],
)
def test_names_become_names_of_python(name: str, module: str, backend: str) -> None:
    """Also where the name would be a word that Python keeps for itself."""
    files = dict(plugin.package(name))
    assert f"class {backend}(wgdisco.BlockingBackend):" in files[f"{module}.py"]
    for path, text in files.items():
        if path.endswith(".py"):
            compile(text, path, "exec")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My Store!", "; did you mean 'my-store'?"),
        ("wgdisco-shelf", "; did you mean 'shelf'?"),
        ("9p", "; did you mean 'p'?"),
        ("a--b", "; did you mean 'a-b'?"),
        ("../etc", "; did you mean 'etc'?"),
        ("café\n", "; did you mean 'caf'?"),
        ("x" * 41, f"; did you mean '{'x' * 40}'?"),
        ("", ""),
    ],
)
def test_a_bad_name_is_refused_with_a_better_one(here: Path, capsys, name: str, said: str) -> None:
    assert main(["plugin", "new", name]) == 2
    expected = "expected lower-case letters, digits and dashes, a letter first, at most 40"
    assert capsys.readouterr().err == f"wgdisco: {name!r} cannot be the name of a backend: {expected}{said}\n"
    assert list(here.iterdir()) == []


def test_a_name_that_is_taken_is_refused(here: Path, capsys) -> None:
    assert main(["plugin", "new", "folder"]) == 2
    message = "wgdisco: there is a backend 'folder' already (built in); choose another name\n"
    assert capsys.readouterr().err == message
    assert list(here.iterdir()) == []


def test_the_name_of_an_installed_plugin_is_refused(target: str, tmp_path: Path) -> None:
    code = "import sys; from wgdisco.cli.main import main; sys.stderr = sys.stdout; print(main(['plugin', 'new', 'example']))"
    told = python("-c", code, cwd=tmp_path, path=target)
    assert told == "wgdisco: there is a backend 'example' already (wgdisco-example 0.1.0); choose another name\n2\n"


def test_a_folder_that_is_there_is_left_alone(here: Path, capsys) -> None:
    (here / "wgdisco-mine").mkdir()
    assert main(["plugin", "new", "mine"]) == 2
    message = "wgdisco: 'wgdisco-mine' is there already and is left as it is; remove it or choose another name\n"
    assert capsys.readouterr().err == message
    assert list((here / "wgdisco-mine").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(here: Path, capsys, monkeypatch) -> None:
    """The folder was removed under the shell that stands in it."""
    gone = here / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["plugin", "new", "mine"]) == 2
    assert capsys.readouterr().err == (
        "wgdisco: cannot write 'wgdisco-mine': No such file or directory; go to a folder of your own\n"
    )
