"""Backend folder: one file for each slot in a directory that something else shares."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import stat
import subprocess
import sys
import tempfile
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path

import pytest

from tests.backends.common import opening
from wgdisco.backend import Slot, from_text, to_text
from wgdisco.backends import _inotify
from wgdisco.backends.folder import Folder
from wgdisco.errors import StoreError
from wgdisco.testing import Author, BackendContract

SLOT = Slot(b"i" * 20, "a" * 32, b"p" * 32)
OTHER = Slot(b"o" * 20, "b" * 32, b"q" * 32)


class Mount:
    """A directory that can go away and come back, as a stick or a mount does."""

    def __init__(self, path: Path) -> None:
        self.path, self.away = path, path.with_name("away")
        path.mkdir()

    def kill(self) -> None:
        self.path.rename(self.away)

    def restart(self) -> None:
        self.away.rename(self.path)


class TestContract(BackendContract):
    @pytest.fixture(autouse=True)
    def mount(self, tmp_path: Path) -> None:
        self.control = Mount(tmp_path / "shared")

    def backend(self) -> Folder:
        return Folder(self.control.path)


class TestContractByPolling(TestContract):
    """The same where inotify tells nothing, as over NFS."""

    @pytest.fixture(autouse=True)
    def deaf(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_inotify, "CHANGES", _inotify.UNMOUNT)


def opened(path: Path) -> AbstractAsyncContextManager[Folder]:
    return opening(Folder(path))


@pytest.fixture
async def folder(tmp_path: Path):
    async with opened(tmp_path) as backend:
        yield backend


def written(folder: Folder, name: str, blob: bytes) -> Path:
    path = folder.path / name
    path.write_text(to_text(blob) + "\n")
    return path


async def test_the_file_is_text_under_the_name_of_the_slot(folder: Folder) -> None:
    await folder.put(SLOT, b"\x01blob", 60)
    assert {path.name: path.read_text() for path in folder.path.iterdir()} == {SLOT.text: "wgd1.AWJsb2I\n"}


async def test_the_umask_decides_who_may_read(folder: Folder) -> None:
    before = os.umask(0o027)
    try:
        await folder.put(SLOT, b"x", 60)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder.path / SLOT.text).stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "name",
    [
        f"{SLOT.text}.sync-conflict-20261121-081500-ABCDEFG",
        f"{SLOT.text} (conflicted copy 2026-11-21 081500)",
        f"{SLOT.text} (laptop's conflicted copy 2026-11-21)",
        f"{SLOT.text}-laptop",
    ],
)
async def test_copies_of_a_synchroniser_are_further_values_and_removed_with_the_slot(folder: Folder, name: str) -> None:
    await folder.put(SLOT, b"ours", 60)
    written(folder, name, b"theirs")
    assert sorted(await folder.get(SLOT)) == [b"ours", b"theirs"]
    await folder.remove(SLOT)
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        f".{SLOT.text}.0a1b2c3d.tmp",
        f".syncthing.{SLOT.text}.tmp",
        f"~syncthing~{SLOT.text}.tmp",
        f".{SLOT.text}.Xa81Zb",
        f"{SLOT.text}x",
        SLOT.text[:-1],
    ],
)
async def test_temporary_and_foreign_files_are_no_values(folder: Folder, name: str) -> None:
    written(folder, name, b"unfinished")
    assert await folder.get(SLOT) == []


async def test_remove_leaves_everything_that_is_not_the_slots(folder: Folder) -> None:
    kept = {OTHER.text, f"{OTHER.text}.sync-conflict-1", f".{OTHER.text}.00000000.tmp", f"{SLOT.text}x", "notes.txt"}
    for name in kept:
        written(folder, name, b"x")
    written(folder, f".{SLOT.text}.00000000.tmp", b"left by kill -9")
    await folder.put(SLOT, b"x", 60)
    await folder.remove(SLOT)
    assert {path.name for path in folder.path.iterdir()} == kept


def fill_with_text(path: Path) -> None:
    path.write_text("a shopping list")


def fill_with_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def leave_empty(path: Path) -> None:
    path.touch()


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_a_value(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_text(to_text(b"x"))
    path.symlink_to(target)


@pytest.mark.parametrize(
    "make", [fill_with_text, fill_with_bytes, leave_empty, link_to_a_device, link_to_a_value, os.mkfifo, Path.mkdir]
)
async def test_what_is_no_value_of_ours_is_nothing_and_hides_nothing(folder: Folder, make) -> None:
    """A pipe, a device or a link in the place of a file is not read, and holds nothing up."""
    make(folder.path / SLOT.text)
    written(folder, f"{SLOT.text}.sync-conflict-1", b"copy")
    assert await asyncio.wait_for(folder.get(SLOT), 10) == [b"copy"]


async def test_a_huge_file_is_cut_and_not_read_whole(folder: Folder) -> None:
    with (folder.path / SLOT.text).open("w") as file:
        file.write("wgd1." + "A" * 4000)
        file.truncate(1 << 40)
    values = await asyncio.wait_for(folder.get(SLOT), 10)
    assert [len(value) for value in values] == [1532]


async def test_at_most_sixteen_files_are_read_for_a_slot(folder: Folder) -> None:
    for number in range(40):
        written(folder, f"{SLOT.text}.copy-{number}", b"%d" % number)
    await folder.put(SLOT, b"ours", 60)
    values = await folder.get(SLOT)
    assert (len(values), values[0]) == (16, b"ours")


async def test_one_bulk_read_lists_the_directory_once(folder: Folder, monkeypatch) -> None:
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    slots = [Author().reading(number) for number in range(50)]
    found = [slot async for slot, _ in folder.fetch(slots)]
    assert (found, listed) == (slots, [folder.path])


async def test_a_missing_directory_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    with pytest.raises(StoreError) as error:
        await Folder(path).open()
    assert str(error.value) == f"the directory '{path}' is not there; mount it, or create it: mkdir -p {path}"
    assert not path.exists()


async def test_a_file_in_place_of_the_directory_is_said(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    path.touch()
    with pytest.raises(StoreError, match=rf"^the directory '{path}' is no directory$"):
        await Folder(path).open()


async def test_a_directory_that_goes_away_is_an_error_of_every_call(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    path.mkdir()
    async with opened(path) as folder:
        path.rmdir()
        for call in (folder.put(SLOT, b"x", 60), folder.get(SLOT), folder.remove(SLOT), anext(folder.watch(SLOT))):
            with pytest.raises(StoreError, match="is not there; mount it"):
                await call


async def test_the_home_directory_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with opened(Path("~")) as folder:
        await folder.put(SLOT, b"x", 60)
    assert (tmp_path / SLOT.text).exists()


@pytest.fixture
def unprivileged():
    """A directory outside root's own, and a switch to a user who may not do everything."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        try:
            yield path, lambda: os.seteuid(65534) if user == 0 else None
        finally:
            os.seteuid(user)
            path.chmod(0o755)


async def test_a_file_that_may_not_be_read_is_said_after_the_slots_that_may(unprivileged) -> None:
    path, drop = unprivileged
    async with opened(path) as folder:
        await folder.put(SLOT, b"x", 60)
        await folder.put(OTHER, b"y", 60)
        (path / SLOT.text).chmod(0)
        drop()
        found = []
        with pytest.raises(StoreError) as error:
            async for answer in folder.fetch([SLOT, OTHER]):
                found.append(answer)
    assert found == [(OTHER, [b"y"])]
    assert str(error.value) == f"cannot read '{path / SLOT.text}': Permission denied; see its owner and mode"


async def test_a_directory_that_may_not_be_written_is_said(unprivileged) -> None:
    path, drop = unprivileged
    path.chmod(0o555)
    drop()
    async with opened(path) as folder:
        with pytest.raises(
            StoreError, match=rf"^the directory '{path}' is closed to this user; see its owner and mode$"
        ):
            await folder.put(SLOT, b"x", 60)


async def test_an_interrupted_write_leaves_the_old_value_and_no_rest(folder: Folder, monkeypatch) -> None:
    await folder.put(SLOT, b"old", 60)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        await folder.put(SLOT, b"new", 60)
    assert await folder.get(SLOT) == [b"old"]
    assert [path.name for path in folder.path.iterdir()] == [SLOT.text]


def write_without_end(path: str) -> None:
    async def main() -> None:
        async with opened(Path(path)) as folder:
            while True:
                for size in (1, 600):
                    await folder.put(SLOT, b"x" * size, 60)

    asyncio.run(main())


async def test_a_reader_never_sees_half_a_value_and_kill_leaves_a_whole_one(folder: Folder) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=write_without_end, args=(str(folder.path),))
    writer.start()
    sizes = set()
    try:
        while sizes != {1, 600}:
            sizes |= {len(value) for value in await folder.get(SLOT)}
        for _ in range(300):
            sizes |= {len(value) for value in await folder.get(SLOT)}
    finally:
        writer.kill()
        writer.join()
    assert sizes == {1, 600}
    assert len(await folder.get(SLOT)) == 1
    await folder.put(SLOT, b"new", 60)
    assert await folder.get(SLOT) == [b"new"]


async def heard(changes, slot: Slot, blob: bytes) -> None:
    async with asyncio.timeout(10):
        async for each, values in changes:
            if each == slot and blob in values:
                return


async def test_news_are_pushed_whoever_writes_the_file(folder: Folder) -> None:
    """By a rename, as a synchroniser does it, or in place; a deletion is news as well."""
    folder.poll = 3600
    async with aclosing(folder.follow([SLOT, OTHER])) as changes:
        await anext(changes)
        await anext(changes)
        written(folder, ".syncthing.tmp", b"renamed").rename(folder.path / OTHER.text)
        await heard(changes, OTHER, b"renamed")
        written(folder, SLOT.text, b"in place")
        await heard(changes, SLOT, b"in place")
        written(folder, f"{SLOT.text}.sync-conflict-1", b"copy")
        await heard(changes, SLOT, b"copy")
        (folder.path / OTHER.text).unlink()
        async with asyncio.timeout(10):
            assert await anext(changes) == (OTHER, [])


async def test_a_directory_that_is_replaced_is_followed_anew(tmp_path: Path) -> None:
    """The watch is on the old one, and would tell nothing for ever."""
    path = tmp_path / "shared"
    path.mkdir()
    async with opened(path) as folder:
        folder.poll = 3600
        async with aclosing(folder.follow([SLOT])) as changes:
            await anext(changes)
            path.rename(tmp_path / "old")
            path.mkdir()
            with pytest.raises(FileNotFoundError, match=r"^the directory was removed, moved or unmounted$"):
                await asyncio.wait_for(anext(changes), 10)


async def test_only_the_slots_that_changed_are_read_again(folder: Folder, monkeypatch) -> None:
    folder.poll = 3600
    asked = []
    load_all = Folder.load_all
    monkeypatch.setattr(Folder, "load_all", lambda self, slots: asked.append(list(slots)) or load_all(self, slots))
    async with aclosing(folder.follow([SLOT, OTHER])) as changes:
        await anext(changes)
        await anext(changes)
        (folder.path / "notes.txt").touch()
        await folder.put(OTHER, b"x", 60)
        await heard(changes, OTHER, b"x")
    assert asked[0] == [SLOT, OTHER]
    assert {slot for slots in asked[1:] for slot in slots} == {OTHER}


async def test_what_inotify_does_not_tell_is_seen_by_polling_also_in_a_busy_directory(
    folder: Folder, monkeypatch
) -> None:
    """Over NFS only our own writes are told; they must not put off the look at everything."""
    monkeypatch.setattr(_inotify, "_names", lambda _events: {"ours"})
    folder.poll = 0.3

    async def busy() -> None:
        while True:
            (folder.path / "ours").write_text("x")
            await asyncio.sleep(0.05)

    writing = asyncio.ensure_future(busy())
    try:
        async with aclosing(folder.follow([SLOT])) as changes:
            await anext(changes)
            written(folder, SLOT.text, b"remote")
            await heard(changes, SLOT, b"remote")
    finally:
        writing.cancel()


async def test_where_inotify_has_no_watch_left_the_directory_is_polled(folder: Folder, monkeypatch, caplog) -> None:
    class Exhausted:
        def inotify_init1(self, _flags: int) -> int:
            _inotify.ctypes.set_errno(24)
            return -1

    monkeypatch.setattr(_inotify.ctypes, "CDLL", lambda *_args, **_options: Exhausted())
    folder.poll = 0.1
    async with aclosing(folder.follow([SLOT])) as changes:
        await anext(changes)
        written(folder, SLOT.text, b"polled")
        await heard(changes, SLOT, b"polled")
    assert f"no inotify, so {folder.path} is polled: Too many open files (see sysctl fs.inotify)" in caplog.text


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_following_leaves_no_descriptor_behind(folder: Folder) -> None:
    before = descriptors()
    for _ in range(3):
        async with aclosing(folder.follow([SLOT])) as changes:
            await anext(changes)
    assert descriptors() == before


async def test_an_overflow_of_the_kernels_queue_means_anything_may_have_changed() -> None:
    event = _inotify.EVENT.pack(1, _inotify.MOVED_TO, 0, 4) + b"x\0\0\0"
    overflow = _inotify.EVENT.pack(-1, _inotify.OVERFLOW, 0, 0)
    assert _inotify._names(event + event) == {"x"}
    assert _inotify._names(event + overflow) is None


def test_a_cold_reader_loads_neither_inotify_nor_ctypes(tmp_path: Path) -> None:
    """`resolve` over a folder is the fastest thing there is, and shall remain so."""
    program = (
        "import asyncio, sys; from pathlib import Path; from wgdisco.backends.folder import Folder\n"
        "from wgdisco.backend import Slot\n"
        "async def main():\n"
        f"    folder = Folder(Path({str(tmp_path)!r})); await folder.open()\n"
        f"    print(await folder.get(Slot(b'', {SLOT.text!r}, b''))); await folder.close()\n"
        "asyncio.run(main()); print({'ctypes', 'wgdisco.backends._inotify', 'nacl'} & set(sys.modules))"
    )
    (tmp_path / SLOT.text).write_text(to_text(b"x"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[b'x']\nset()\n"


def test_the_longest_text_is_read_whole() -> None:
    assert from_text(to_text(bytes(681))[:2048]) == bytes(681)
