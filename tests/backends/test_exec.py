"""Backend exec: programs that store, fail, hang, shout and leave things behind."""

from __future__ import annotations

import asyncio
import inspect
import os
import shlex
from base64 import b64encode
from pathlib import Path

import pytest

from tests.support import wait_for
from wgdisco.backend import Slot
from wgdisco.backends.exec import Exec
from wgdisco.errors import ConfigError, RetryLater, StoreError
from wgdisco.testing import BackendContract

SLOT = Slot(b"i" * 20, "a" * 32, b"p" * 32)


def program(folder: Path, text: str, name: str = "store") -> Path:
    """An executable shell script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class Shelf:
    """A program that keeps each slot in a file, and sleeps or fails when it is told to."""

    TEXT = """
        cd "$(dirname "$0")" || exit 1
        [ ! -e frozen ] || sleep 3600
        [ ! -e dead ] || { echo "the server is gone" >&2; exit 1; }
        case $1 in
        put) cat >"$2.$$" && mv "$2.$$" "$2" ;;
        get) [ ! -e "$2" ] || cat "$2" ;;
        remove) rm -f "$2" ;;
        esac
    """

    def __init__(self, folder: Path) -> None:
        self.path = program(folder, self.TEXT)
        self.freeze, self.kill = (folder / "frozen").touch, (folder / "dead").touch
        self.thaw, self.restart = (folder / "frozen").unlink, (folder / "dead").unlink


class TestContract(BackendContract):
    @pytest.fixture(autouse=True)
    def shelf(self, tmp_path: Path) -> None:
        self.control = Shelf(tmp_path)

    def backend(self) -> Exec:
        return Exec([str(self.control.path)])


class TestContractOfTheExample(BackendContract):
    """The script in the documentation, with another `ssh` in front that runs the remote part here."""

    @pytest.fixture(autouse=True)
    def example(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text = inspect.getdoc(Exec).partition("```sh\n#!/bin/sh\n")[2].partition("```")[0]
        self.path = program(tmp_path, text)
        program(tmp_path, f'cd {tmp_path} && [ "$1" = host ] && exec sh -c "$2"', "ssh")
        (tmp_path / "slots").mkdir()
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def backend(self) -> Exec:
        return Exec(str(self.path))


async def test_the_program_is_told_action_slot_blob_and_lifetime(tmp_path: Path) -> None:
    log = tmp_path / "log"
    path = program(tmp_path, f'{{ echo "$@"; echo "$WGDISCO_LIFETIME"; cat; }} >>{log}')
    backend = Exec(f"{path} --flag 'two words'")
    await backend.put(SLOT, bytes(range(250, 256)), 3600)
    await backend.get(SLOT)
    await backend.remove(SLOT)
    assert log.read_text().splitlines() == [
        f"--flag two words put {SLOT.text}",
        "3600",
        b64encode(bytes(range(250, 256))).decode(),
        f"--flag two words get {SLOT.text}",
        "",
        f"--flag two words remove {SLOT.text}",
        "",
    ]


async def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    backend = Exec(["echo", "$HOME", ";", "touch", str(tmp_path / "made")])
    with pytest.raises(StoreError, match=r"^`echo get` printed '\$HOME ; touch "):
        await backend.get(SLOT)
    assert not (tmp_path / "made").exists()


async def test_every_line_is_a_value_and_other_lines_are_skipped(tmp_path: Path) -> None:
    path = program(tmp_path, "printf 'bm8x\\r\\n\\n  a shopping list\\nbm8y'")
    assert await Exec(str(path)).get(SLOT) == [b"no1", b"no2"]


async def test_nothing_but_foreign_lines_is_an_error_that_quotes_the_first(tmp_path: Path) -> None:
    path = program(tmp_path, "echo 'Fetching…'; echo ok!")
    with pytest.raises(StoreError) as error:
        await Exec(str(path)).get(SLOT)
    assert str(error.value) == (
        "`store get` printed 'Fetching…'; expected one line of base64 for each value (base64 -w 0), or nothing"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo first >&2; echo 'cannot reach host' >&2; echo >&2; exit 1", "cannot reach host"),
        ("exit 3", "`store get` ended with exit code 3 and no reason on stderr"),
        ("kill -9 $$", "`store get` ended with signal 9 (Killed) and no reason on stderr"),
        (r"printf 'red: \033[31m\007' >&2; exit 1", "red: ?[31m?"),
        ("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1", "end"),
    ],
)
async def test_the_last_line_of_stderr_is_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(StoreError) as error:
        await Exec(str(program(tmp_path, text))).get(SLOT)
    assert str(error.value) == reason


async def test_what_a_program_says_on_stderr_does_not_matter_when_it_succeeds(tmp_path: Path) -> None:
    path = program(tmp_path, "echo warning >&2; echo bm8x")
    assert await Exec(str(path)).get(SLOT) == [b"no1"]


async def test_exit_code_75_asks_to_be_left_alone(tmp_path: Path) -> None:
    path = program(tmp_path, "echo 'too many requests' >&2; exit 75")
    with pytest.raises(RetryLater, match=r"^too many requests$") as error:
        await Exec(str(path)).get(SLOT)
    assert error.value.seconds == 60


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_after_the_deadline_it_is_killed_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    path = program(tmp_path, f"echo $$ >>{pids}; sleep 3600 & echo $! >>{pids}; wait")
    backend = Exec(str(path))
    backend.deadline = 0.5
    with pytest.raises(TimeoutError, match=r"^`store put` did not end within 0\.5 s$"):
        await backend.put(SLOT, b"x", 60)
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    wait_for(lambda: not any(map(alive, started)), "both are gone")


async def test_a_call_that_is_given_up_kills_it_as_well(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    path = program(tmp_path, f"echo $$ >>{pids}; exec sleep 3600")
    call = asyncio.ensure_future(Exec(str(path)).get(SLOT))
    while not pids.exists() or not pids.read_text():
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not alive(int(pids.read_text()))


async def test_a_flood_is_cut_and_ends_the_program(tmp_path: Path) -> None:
    path = program(tmp_path, "exec yes")
    with pytest.raises(StoreError, match=r"^`store get` printed more than 65536 bytes$"):
        await Exec(str(path)).get(SLOT)


@pytest.mark.parametrize("code", [0, 1])
async def test_what_goes_on_in_the_background_is_not_waited_for(tmp_path: Path, code: int) -> None:
    """A program may leave something running that keeps its outputs open, as ssh does with ControlPersist."""
    pid = tmp_path / "pid"
    path = program(tmp_path, f"sleep 3600 & echo $! >{pid}; echo bm8x; echo because >&2; exit {code}")
    try:
        async with asyncio.timeout(10):
            if code:
                with pytest.raises(StoreError, match=r"^because$"):
                    await Exec(str(path)).get(SLOT)
            else:
                assert await Exec(str(path)).get(SLOT) == [b"no1"]
    finally:
        os.kill(int(pid.read_text()), 9)  # fails if it had been killed with the program


async def test_a_program_need_not_read_its_input(tmp_path: Path) -> None:
    await Exec(str(program(tmp_path, "exit 0"))).put(SLOT, bytes(681), 60)


def test_nothing_is_left_behind_when_the_loop_ends(tmp_path: Path) -> None:
    """No process that nobody waits for, no transport that is closed by chance: either would be a warning here."""
    backend = Exec(str(program(tmp_path, "exec sleep 3600")))
    backend.deadline = 0.1

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await backend.get(SLOT)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("", "command = '': expected a program and its arguments"),
        ([], "command = []: expected a program and its arguments"),
        ("store 'unclosed", 'command = "store \'unclosed": no closing quotation'),
        ("wgdisco-nowhere --flag", "there is no program 'wgdisco-nowhere' in PATH; give its full path"),
        ("/nowhere/store", "there is no program '/nowhere/store'"),
    ],
)
async def test_a_command_that_cannot_be_is_a_clear_error(command, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        await Exec(command).open()
    assert str(error.value) == text


async def test_a_program_that_may_not_be_run_is_said_with_the_command_that_mends_it(tmp_path: Path) -> None:
    path = program(tmp_path, "exit 0", "my store")
    path.chmod(0o644)
    with pytest.raises(ConfigError) as error:
        await Exec(shlex.quote(str(path))).open()
    assert str(error.value) == f"the program {str(path)!r} may not be run; try: chmod +x '{path}'"


async def test_a_script_without_its_first_line_is_said(tmp_path: Path) -> None:
    path = program(tmp_path, "")
    path.write_text("exit 0\n")
    with pytest.raises(StoreError) as error:
        await Exec(str(path)).get(SLOT)
    assert str(error.value) == f"cannot run '{path}': Exec format error; a script begins with #!/bin/sh or the like"


async def test_the_home_directory_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    program(tmp_path, "echo bm8x")
    assert await Exec("~/store").get(SLOT) == [b"no1"]
