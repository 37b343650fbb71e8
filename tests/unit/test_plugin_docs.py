"""docs/plugins.md is true: every command and every line of code in it is run, in the order of the page."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest

import wgdisco
from tests.support import free_ports, wait_for
from wgdisco import config
from wgdisco.backend import Slot
from wgdisco.testing import Control

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text()
PORT = "8765"  # in the page; a free one is used instead
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who types what the page says into one shell, without a network."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = self.here = folder / "home"
        self.here.mkdir()
        self.port = free_ports()[0]
        self.sessions: list[int] = []
        self.output = folder / "output"
        target = folder / "target"
        # pip reads its options from here, too: install what is at hand, into a folder of our own
        pip = {"NO_INDEX": "1", "FIND_LINKS": str(wheels), "NO_DEPS": "1", "NO_BUILD_ISOLATION": "0", "UPGRADE": "1"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PIP_", "PYTHON"))}
        self.environment = kept | {
            **{f"PIP_{key}": value for key, value in pip.items()},
            "PIP_TARGET": str(target),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONPATH": str(target),
            "PATH": os.pathsep.join([str(target / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "STATE_DIRECTORY": str(folder / "state"),
            "no_proxy": "127.0.0.1",
        }

    def type(self, command: str) -> str:
        """What the command printed, after making sure that it succeeded."""
        where = self.folder / "where"
        script = f"{command}\ncode=$?; pwd > {where}; exit $code"
        with self.output.open("w+") as output:
            shell = subprocess.Popen(
                ["bash", "-c", script.replace(PORT, str(self.port))],
                cwd=self.here,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.sessions.append(shell.pid)
            code = shell.wait(timeout=120)
        told = self.output.read_text()
        assert code == 0, f"$ {command}\n{told}"
        self.here = Path(where.read_text().rstrip("\n"))
        if command.endswith("&"):
            wait_for(self.served, f"$ {command}")
        return told

    def served(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def play(self, kind: str, text: str) -> None:
        """Do what one block says."""
        if kind == "console":
            for command, expected in session(text):
                told = self.type(command)
                assert pattern(expected).fullmatch(told), f"$ {command}\nexpected:\n{expected}\ntold:\n{told}"
        elif kind == "toml":
            (self.here / "wg0.toml").write_text(text)
            assert list(config.load(self.here / "wg0.toml").backends) == ["mystore"]
        elif named := re.match(r"# (\S+\.py)\n", text):
            assert (self.here / named[1]).exists(), f"{named[1]} is no file of the package"
            (self.here / named[1]).write_text(text)
        else:
            (self.here / "snippet.py").write_text(text)
            self.type("python snippet.py && rm snippet.py")

    def leave(self) -> None:
        """End what was left running."""
        for pid in self.sessions:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def session(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, with the output it is said to have."""
    assert text.startswith("$ ")
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def pattern(expected: str) -> re.Pattern[str]:
    """`…` in a line is anything in it, and as a line of its own any lines or none; that of `-o option=…` is printed so."""
    lines = expected.splitlines()
    return re.compile(
        "".join("(?:.*\n)*" if line == "…" else re.sub("(?<!=)…", ".*", re.escape(line)) + "\n" for line in lines)
    )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """A folder with wgdisco's own wheel, so that what the page needs is proved to be in it."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_reader_who_types_all_of_it_gets_what_it_says(tmp_path: Path, wheels: Path) -> None:
    reader = Reader(tmp_path, wheels)
    try:
        for kind, text in BLOCKS:
            reader.play(kind, text)
    finally:
        reader.leave()


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {kind for kind, _ in BLOCKS} == {"console", "python", "toml"}
    assert 2 * len(BLOCKS) == len(re.findall(r"^ *(?:```|~~~)", PAGE, re.MULTILINE))


def test_output_that_differs_is_noticed() -> None:
    assert pattern("one\n").fullmatch("one\n")
    assert not pattern("one\n").fullmatch("one\ntwo\n")
    assert pattern("a … c\n").fullmatch("a b c\n")
    assert not pattern("a … c\n").fullmatch("a b\nb c\n")
    assert pattern("…\nlast\n").fullmatch("last\n")
    assert pattern("…\nlast\n").fullmatch("first\nsecond\nlast\n")
    assert not pattern("-o url=…  text\n").fullmatch("-o url=x  text\n")


def table(head: str) -> list[str]:
    """The names in the first column of the table that follows this text."""
    rows = re.match(r"[^|]*\|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE.partition(head)[2])
    assert rows, head
    return [name for row in rows[1].splitlines() for name in re.findall(r"`(\w+)", row.split("|")[1])]


def own(kind: type) -> set[str]:
    """The public functions in the body of a class."""
    return {name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}


def test_the_methods_are_those_there_are() -> None:
    assert set(table("**Methods**")) == own(wgdisco.Backend)
    blocking = own(wgdisco.BlockingBackend) - own(wgdisco.Backend) - {"aside"}
    assert set(table("**Blocking libraries**")) == blocking
    assert set(table("Set `control`")) == own(Control)


def test_the_fields_of_a_slot_are_those_there_are() -> None:
    assert sorted(table("**A slot**")) == sorted(field.name for field in fields(Slot))


def test_public_names_on_the_page_exist() -> None:
    names = set(re.findall(r"\bwgdisco\.([A-Za-z]\w*)", re.sub(r"wgdisco\.testing\.?\w*", "", PAGE)))
    assert names <= set(wgdisco.__all__)
