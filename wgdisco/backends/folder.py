"""A shared directory (Syncthing, NFS, a USB stick): one file for each slot."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from wgdisco.backend import Backend, Slot, from_text, to_text
from wgdisco.blocking import BlockingBackend
from wgdisco.errors import StoreError
from wgdisco.hookspecs import hookimpl

if TYPE_CHECKING:
    from wgdisco.backends._inotify import Inotify

__all__ = ["Folder"]

LONGEST = 2048  # bytes read of a file; the text form of the largest blob has 913
COPIES = 15  # read for one slot beside its own file
TEXT = 32  # characters of a slot's text
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass
class Folder(BlockingBackend):
    """One small text file for each slot, named after it and replaced atomically.

    The files are text (`wgd1.…`): it survives whatever copies them, can be looked at, and is told from foreign files.
    The copies that a synchroniser makes when two versions meet (`SLOT.sync-conflict-…` of Syncthing, `SLOT
    (conflicted copy)` of others) are read as further values. The umask decides who besides the owner may read the
    files, so users who share a directory on one machine want 022 or a group and 027; what is in them is sealed.

    News come by inotify. It does not see what other machines write over NFS or SMB, so all is read every `poll`
    seconds as well.
    """

    name = "folder"
    poll: ClassVar[float] = 5.0

    path: Path
    """The directory; everyone who shares it can withhold records, and read none."""

    def start(self) -> None:
        """Look for the directory; it is never made here, since it may be a mount that is missing."""
        self.path = self.path.expanduser()
        with self._here():
            os.scandir(self.path).close()

    def store(self, slot: Slot, blob: bytes, lifetime: int) -> None:  # noqa: ARG002 - files stay until they are removed
        """Write a new file and rename it over the slot's once it is on the disk."""
        temporary = self.path / f".{slot.text}.{os.urandom(4).hex()}.tmp"
        with self._here():
            try:
                _write(temporary, to_text(blob).encode() + b"\n")
                temporary.replace(self.path / slot.text)
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
            _sync(self.path)

    def load(self, slot: Slot) -> list[bytes]:
        """The values in the slot's file and its copies."""
        ((_, values),) = self.load_all([slot])
        if isinstance(values, StoreError):
            raise values
        return values

    def load_all(self, slots: Sequence[Slot]) -> list[tuple[Slot, list[bytes] | StoreError]]:
        """Each slot with its values, or why they cannot be read; the directory is listed once."""
        copies: dict[str, list[str]] = {slot.text: [] for slot in slots}
        for name in self._names():
            found = copies.get(name[:TEXT])
            if found is not None and len(found) < COPIES and _is_copy(name):
                found.append(name)
        return [(slot, self._values([slot.text, *copies[slot.text]])) for slot in slots]

    def erase(self, slot: Slot) -> None:
        """Delete the slot's file, its copies, and what an interrupted `store` left."""
        doomed = [name for name in self._names() if _belongs(name, slot)]
        with self._here():
            for name in doomed:
                (self.path / name).unlink(missing_ok=True)

    async def fetch(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its values; one that cannot be read is raised after the others."""
        failed: StoreError | None = None
        for slot, values in await self.aside(lambda folder: folder.load_all(slots)):
            if isinstance(values, StoreError):
                failed = values
            else:
                yield slot, values
        if failed is not None:
            raise failed

    async def watch(self, slot: Slot) -> AsyncGenerator[list[bytes], None]:
        """The slot's values now, and at every change."""
        async with aclosing(self.follow([slot])) as changes:
            async for _, values in changes:
                yield values

    async def follow(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its values, and again at every change: inotify tells it, or a look every `poll` seconds."""
        seen: dict[bytes, list[bytes]] = {}
        news = await self.aside(lambda folder: folder.listen())
        try:
            stale, again = slots, time.monotonic() + self.poll
            while True:
                async with aclosing(self.fetch(stale)) as answers:
                    async for slot, values in answers:
                        if seen.get(slot.id) != sorted(values):
                            seen[slot.id] = sorted(values)
                            yield slot, values
                names = await news.changed(max(0.0, again - time.monotonic()))
                if names is None:
                    stale, again = slots, time.monotonic() + self.poll
                else:
                    changed = {name[:TEXT] for name in names}
                    stale = [slot for slot in slots if slot.text in changed]
        finally:
            news.close()

    def listen(self) -> Inotify:
        """Have the kernel tell what changes; where it cannot, nothing is told."""
        from wgdisco.backends._inotify import Inotify

        with self._here():
            return Inotify(self.path)

    def _names(self) -> Iterator[str]:
        with self._here(), os.scandir(self.path) as entries:
            for entry in entries:
                yield entry.name

    def _values(self, names: Iterable[str]) -> list[bytes] | StoreError:
        """The values in the files; an error counts only when no file has one."""
        values: list[bytes] = []
        failed: StoreError | None = None
        for name in names:
            try:
                text = _read(self.path / name)
            except OSError as error:
                failed = failed or StoreError(
                    f"cannot read '{self.path / name}': {error.strerror}; see its owner and mode"
                )
            else:
                blob = from_text(text.strip())
                values += [] if blob is None else [blob]
        return values if values or failed is None else failed

    @contextmanager
    def _here(self) -> Iterator[None]:
        """Say what to do when it is the directory that is missing."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            if self.path.is_dir():
                raise
            what = (
                "is no directory"
                if self.path.exists()
                else f"is not there; mount it, or create it: mkdir -p {self.path}"
            )
            raise StoreError(f"the directory '{self.path}' {what}") from error
        except PermissionError as error:
            raise StoreError(f"the directory '{self.path}' is closed to this user; see its owner and mode") from error


def _is_copy(name: str) -> bool:
    return len(name) > TEXT and not name[TEXT].isalnum()


def _belongs(name: str, slot: Slot) -> bool:
    """Whether it is the slot's file, a copy of it, or what an interrupted `store` left."""
    if name.startswith("."):
        return name.startswith(f".{slot.text}.") and name.endswith(".tmp")
    return name == slot.text or (name.startswith(slot.text) and _is_copy(name))


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, WRITE, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Have the new name on the disk as well, where the file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> str:
    """The beginning of a file; empty for a pipe, a device or a link in its place."""
    try:
        descriptor = os.open(path, READ)
    except FileNotFoundError:
        return ""
    except OSError:
        if stat.S_ISREG(path.lstat().st_mode):
            raise
        return ""
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.read(descriptor, LONGEST).decode("ascii", "replace") if regular else ""
    finally:
        os.close(descriptor)


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The backend of this file."""
    return [Folder]
