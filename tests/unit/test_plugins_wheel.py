"""Third parties' packages, built into wheels and installed: the commands use the one that was named, and no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from wgdisco.keys import PrivateKey

pytestmark = pytest.mark.xdist_group("plugin_wheel")  # so that the wheels are built once
SOURCES = Path(__file__).parents[1] / "plugin_wheel"
ALICE = PrivateKey(b"a" * 32)


def quiet(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Path:
    """A folder with both packages installed into it, to be put on PYTHONPATH."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("target")
    for source in ("shelf", "crooked"):
        quiet("build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(SOURCES / source))
    files = sorted(map(str, wheels.iterdir()))
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    quiet("pip", "install", *options, "--target", str(target), *files)
    return target


@pytest.fixture
def wgdisco(target: Path, tmp_path: Path):
    """Run a command with the packages installed; (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        environment = os.environ | {"PYTHONPATH": str(target), "STATE_DIRECTORY": str(tmp_path), "LABEL": "hunter2"}
        command = [sys.executable, "-m", "wgdisco", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "private.key"
    path.write_text(b64encode(b"a" * 32).decode())
    path.chmod(0o600)
    return str(path)


def test_a_record_is_published_and_found_through_an_installed_backend(wgdisco, key: str, tmp_path: Path) -> None:
    shelf = ("-b", "shelf", "-o", f"path={tmp_path}/shelf", "-o", "label=env:LABEL")
    published = wgdisco("publish", "--private-key-file", key, "--to", "key", "-e", "192.0.2.7:51820", *shelf)
    assert (published[0], published[1].splitlines()[-1]) == (0, "  shelf: stored")
    # one slot, or two when the key's period ends within the hour
    assert {each.read_text()[:13] for each in (tmp_path / "shelf").iterdir()} == {"hunter2:3600:"}
    assert wgdisco("resolve", str(ALICE.public), "--short", *shelf)[:2] == (0, "192.0.2.7:51820\n")


def test_an_installed_but_unnamed_plugin_is_not_imported(wgdisco, tmp_path: Path) -> None:
    """The other package says on stdout when it is."""
    words = ("resolve", str(ALICE.public), "--short", "-b", "shelf", "-o", f"path={tmp_path}/shelf")
    assert wgdisco(*words)[:2] == (1, "")
    assert "was imported" not in wgdisco("backends")[1]


def test_the_list_shows_whose_each_backend_is(wgdisco) -> None:
    rows = {row["name"]: row for row in json.loads(wgdisco("backends", "--json")[1])["backends"]}
    assert {name: row["origin"] for name, row in rows.items() if row["origin"] != "built in"} == {
        "crooked": "wgdisco-crooked 0.9",
        "misspelt": "wgdisco-crooked 0.9",
        "shelf": "wgdisco-shelf 1.2",
    }


def test_the_options_of_an_installed_backend_are_shown(wgdisco) -> None:
    assert wgdisco("backends", "shelf")[1].splitlines()[:6] == [
        "shelf: One text file for each slot, in a folder.",
        "",
        "  -o path=…  path, required",
        "      The folder.",
        "  -o label=…  secret by reference: file:/path, env:NAME or credential:NAME, default: none",
        "      What every file begins with.",
    ]


def test_a_plain_secret_for_an_installed_backend_is_not_quoted(wgdisco, tmp_path: Path) -> None:
    code, _, error = wgdisco(
        "resolve", str(ALICE.public), "-b", "shelf", "-o", f"path={tmp_path}", "-o", "label=hunter2"
    )
    assert (code, error.partition(";")[0].partition(", never")[0]) == (
        2,
        "wgdisco: backend 'shelf': option label: a secret is given by reference",
    )
    assert "hunter2" not in error


def test_a_plugin_that_ends_the_program_is_an_error_of_its_own(wgdisco) -> None:
    code, _, error = wgdisco("resolve", str(ALICE.public), "-b", "crooked")
    assert (code, error) == (
        2,
        "wgdisco: backend 'crooked' of wgdisco-crooked 0.9 is broken: SystemExit: crooked: no licence\n",
    )


def test_a_misspelt_hook_is_an_error(wgdisco, target: Path) -> None:
    code, _, error = wgdisco("resolve", str(ALICE.public), "-b", "misspelt")
    assert code == 2
    assert error == (
        "wgdisco: backend 'misspelt' of wgdisco-crooked 0.9 is broken: PluginValidationError: unknown hook 'wgdisco_backend' "
        f"in plugin <module 'wgdisco_crooked.misspelt' from '{target}/wgdisco_crooked/misspelt.py'>\n"
    )


def test_a_misspelt_name_is_answered_with_the_installed_one(wgdisco) -> None:
    code, _, error = wgdisco("resolve", str(ALICE.public), "-b", "shlef")
    assert (code, error) == (2, "wgdisco: there is no backend 'shlef'; did you mean 'shelf'?\n")
