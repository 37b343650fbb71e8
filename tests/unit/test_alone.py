"""One agent for each interface: the second is told who is there, and what is left of a dead one is in nobody's way."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks.scene import Tunnel
from tests.unit.records import ALICE, BOB
from wgdisco import report
from wgdisco.alone import alone, at_work, lock_file
from wgdisco.cli.main import main
from wgdisco.device import Peer
from wgdisco.errors import UsageError

HOLD = """
import asyncio, sys
from pathlib import Path
from wgdisco.alone import alone

async def hold():
    async with alone("wg9", print, Path(sys.argv[1])):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


class Holder:
    """Another process that is the agent of wg9."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", HOLD, str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def holder(tmp_path):
    made = Holder(tmp_path)
    yield made
    made.end()


async def test_the_second_agent_is_told_who_is_there_and_what_to_do(tmp_path, holder) -> None:
    said: list[str] = []
    with pytest.raises(UsageError) as caught:
        async with alone("wg9", said.append, tmp_path, patience=0.15):
            pytest.fail("two agents")
    assert str(caught.value) == (
        f"wg9: the agent (pid {holder.pid}) is at work on it, and two would work against each other; "
        "end that one first: systemctl stop wgdisco@wg9, or kill it"
    )
    assert said == [f"wg9: the agent (pid {holder.pid}) is at work on it; waiting 0.15 s for its end"]
    assert caught.value.exit_code == 2


async def test_an_agent_that_is_ending_is_waited_for(tmp_path, holder) -> None:
    asyncio.get_running_loop().call_later(0.3, holder.end)
    async with alone("wg9", lambda _: None, tmp_path):
        assert lock_file("wg9", tmp_path).read_text() == f"{os.getpid()}\n"


async def test_what_a_killed_agent_left_is_in_nobodys_way(tmp_path, holder) -> None:
    holder.end()
    assert lock_file("wg9", tmp_path).read_text() == f"{holder.pid}\n"
    assert at_work("wg9", tmp_path) is None
    said: list[str] = []
    async with alone("wg9", said.append, tmp_path, patience=0.0):
        assert said == []


async def test_another_interface_has_another_agent(tmp_path, holder) -> None:
    async with alone("wg8", lambda _: None, tmp_path, patience=0.0):
        assert at_work("wg8", tmp_path) == f"the agent (pid {os.getpid()})"


def test_the_agent_at_work_is_named_and_not_disturbed(tmp_path, holder) -> None:
    assert [at_work("wg9", tmp_path) for _ in range(2)] == [f"the agent (pid {holder.pid})"] * 2


def test_two_who_look_at_once_do_not_take_each_other_for_an_agent(tmp_path, holder) -> None:
    holder.end()
    with lock_file("wg9", tmp_path).open() as another:
        fcntl.flock(another, fcntl.LOCK_SH)
        assert at_work("wg9", tmp_path) is None


def test_where_there_never_was_an_agent_there_is_none(tmp_path) -> None:
    assert at_work("wg9", tmp_path) is None


async def test_nobody_else_can_open_the_file_and_hold_up_an_agent(tmp_path) -> None:
    async with alone("wg9", lambda _: None, tmp_path):
        assert lock_file("wg9", tmp_path).stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
async def test_what_root_makes_belongs_to_the_folders_owner(tmp_path) -> None:
    """Which is the service's account; it could not lock the file else."""
    (tmp_path / "wg9").mkdir()
    os.chown(tmp_path / "wg9", 4711, 4712)
    async with alone("wg9", lambda _: None, tmp_path):
        status = lock_file("wg9", tmp_path).stat()
    assert (status.st_uid, status.st_gid) == (4711, 4712)


async def test_a_link_leads_root_to_no_other_file(tmp_path) -> None:
    """The folder's owner, who need not be root, could choose the file."""
    (tmp_path / "wg9").mkdir()
    (tmp_path / "precious").write_text("precious")
    lock_file("wg9", tmp_path).symlink_to(tmp_path / "precious")
    said: list[str] = []
    async with alone("wg9", said.append, tmp_path):
        assert (tmp_path / "precious").read_text() == "precious"
    path = lock_file("wg9", tmp_path)
    assert said == [f"{path}: Too many levels of symbolic links; so nothing keeps a second agent away from wg9"]


async def test_where_no_lock_can_be_made_the_agent_works_all_the_same(tmp_path) -> None:
    (tmp_path / "wg9").write_text("in the way")
    said: list[str] = []
    async with alone("wg9", said.append, tmp_path):
        assert "so nothing keeps a second agent away" in said[0]


# ---- the commands


@pytest.fixture
def busy(tmp_path, holder, monkeypatch) -> Tunnel:
    """An interface with an agent."""
    tunnel = Tunnel(BOB, Peer(ALICE.public))
    (tmp_path / "shelf").mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr("wgdisco.config.FOLDER", tmp_path / "etc")
    for module in ("wgdisco.agent", "wgdisco.device"):
        monkeypatch.setattr(f"{module}.open_device", lambda _: tunnel)
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr("wgdisco.alone.PATIENCE", 0.1)
    return tunnel


def typed(folder: Path, *words: str) -> int:
    store = ["-b", "folder", "-o", f"path={folder / 'shelf'}", "-e", "203.0.113.7:51820"]
    return main([*words, "-i", "wg9", *store])


def test_run_beside_an_agent_ends_with_2(tmp_path, busy, holder, capsys) -> None:
    assert typed(tmp_path, "run") == 2
    assert f"wg9: the agent (pid {holder.pid}) is at work on it, and two" in capsys.readouterr().err
    assert (busy.calls, list((tmp_path / "shelf").iterdir())) == ([], [])


def test_run_once_beside_an_agent_leaves_it_to_that(tmp_path, busy, holder, capsys) -> None:
    assert typed(tmp_path, "run", "--once") == 0
    assert capsys.readouterr().err == (
        f"wgdisco: wg9: the agent (pid {holder.pid}) does all that already, so nothing was done; "
        "see: wgdisco status -i wg9\n"
    )
    assert (busy.calls, list((tmp_path / "shelf").iterdir())) == ([], [])


def test_connect_beside_an_agent_is_refused(tmp_path, busy, holder, capsys) -> None:
    assert typed(tmp_path, "connect", str(ALICE.public)) == 2
    said = capsys.readouterr().err
    assert (
        f"wg9: the agent (pid {holder.pid}) is connecting its peers already; how far it is says: wgdisco why " in said
    )
    assert (busy.calls, list((tmp_path / "shelf").iterdir())) == ([], [])
