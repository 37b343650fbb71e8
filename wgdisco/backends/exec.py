"""Any program as a store: `command put|get|remove SLOT`, blobs in base64 on stdin and stdout."""

from __future__ import annotations

import asyncio
import binascii
import errno
import os
import shlex
import shutil
import signal
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from wgdisco.backend import Backend, RetryLater, Slot
from wgdisco.errors import ConfigError, StoreError
from wgdisco.hookspecs import hookimpl

__all__ = ["Exec"]

OUTPUT = 65536  # bytes of stdout that are read, as many as one fetch may bring
REASON = 4096  # bytes of the end of stderr that are kept
LATER = 75  # EX_TEMPFAIL of sysexits.h
PAUSE = 60.0  # seconds to leave such a program alone
GRACE = 0.5  # seconds in which the output of a program that has ended is waited for


@dataclass
class Exec(Backend):
    """Runs a program of yours for each question; no shell is involved.

    `PROGRAM put SLOT` gets one line of base64 on stdin and the seconds to keep it in $WGDISCO_LIFETIME; it replaces
    what was there. `PROGRAM get SLOT` prints what is there, one line of base64 for each value, and nothing when there
    is nothing. `PROGRAM remove SLOT` forgets it, or does nothing. SLOT is 32 letters and digits (a-z, 2-7).

    Exit code 0 means done, 75 (EX_TEMPFAIL) that it wants to be left alone for a minute, any other that it failed;
    the last line it wrote to stderr is the reason shown. It runs with wgdisco's rights, environment and working
    directory, up to 16 at once, and is killed with all it started when `deadline` seconds have passed.

    ```sh
    #!/bin/sh
    # any host with ssh is a store
    case $1 in
    put) ssh host "cat >slots/$2.new && mv slots/$2.new slots/$2" ;;
    get) ssh host "test ! -e slots/$2 || cat slots/$2" ;;
    remove) ssh host "rm -f slots/$2" ;;
    esac
    ```
    """

    name = "exec"
    poll: ClassVar[float] = 30.0
    deadline: ClassVar[float] = 15.0

    command: str | list[str]
    """The program and its first arguments: a line, split as a shell splits words, or a list."""

    async def open(self) -> None:
        """Look for the program; raises ConfigError when it is not there or may not be run."""
        _look_for(_words(self.command)[0])

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Run `put` with the blob on stdin."""
        await self._run("put", slot, b64encode(blob) + b"\n", {"WGDISCO_LIFETIME": str(lifetime)})

    async def get(self, slot: Slot) -> list[bytes]:
        """Run `get` and decode what it prints; what is no base64 is an error only when there is nothing else."""
        lines = [line for line in (await self._run("get", slot)).splitlines() if line.strip()]
        values = [value for value in map(_decoded, lines) if value is not None]
        if lines and not values:
            expected = "expected one line of base64 for each value (base64 -w 0), or nothing"
            raise StoreError(f"{self._called('get')} printed {_shown(lines[0])!r}; {expected}")
        return values

    async def remove(self, slot: Slot) -> None:
        """Run `remove`."""
        await self._run("remove", slot)

    async def _run(
        self, action: str, slot: Slot, entry: bytes = b"", more: Mapping[str, str] = MappingProxyType({})
    ) -> bytes:
        """What the program prints; raises StoreError with its reason, RetryLater, or TimeoutError."""
        program, words = _Program(), [*_words(self.command), action, slot.text]
        try:
            async with asyncio.timeout(self.deadline):
                await program.run(words, entry, {**os.environ, **more})
        except TimeoutError:
            raise TimeoutError(f"{self._called(action)} did not end within {self.deadline:g} s") from None
        except OSError as error:
            hint = "; a script begins with #!/bin/sh or the like" if error.errno == errno.ENOEXEC else ""
            raise StoreError(f"cannot run {words[0]!r}: {error.strerror}{hint}") from error
        finally:
            await program.end()
        return self._judged(action, program)

    def _judged(self, action: str, program: _Program) -> bytes:
        if len(program.output) > OUTPUT:
            raise StoreError(f"{self._called(action)} printed more than {OUTPUT} bytes")
        if program.code == 0:
            return bytes(program.output)
        lines = program.errors.split(b"\n")
        silent = f"{self._called(action)} ended with {_named(program.code)} and no reason on stderr"
        reason = next((_shown(line) for line in reversed(lines) if line.strip()), silent)
        raise RetryLater(PAUSE, reason) if program.code == LATER else StoreError(reason)

    def _called(self, action: str) -> str:
        return f"`{Path(_words(self.command)[0]).name} {action}`"


class _Program(asyncio.SubprocessProtocol):
    """One run of a program in a process group of its own: what it says, within bounds, and its exit code."""

    def __init__(self) -> None:
        self.output, self.errors = bytearray(), bytearray()
        self.code: int | None = None
        self.ended, self.exited = asyncio.Event(), asyncio.Event()
        self.silent: set[int] = set()
        self.transport: asyncio.SubprocessTransport | None = None

    async def run(self, words: Sequence[str], entry: bytes, environment: Mapping[str, str]) -> None:
        """Start it, write to its stdin, and wait until it has said everything and ended."""
        loop = asyncio.get_running_loop()
        await loop.subprocess_exec(lambda: self, *words, env=environment, start_new_session=True)
        assert self.transport is not None
        stdin = self.transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        stdin.write(entry)
        stdin.close()
        await self.ended.wait()

    async def end(self) -> None:
        """Kill it and what it started, unless it has ended by itself."""
        if self.transport is None:
            return
        if self.code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.transport.get_pid(), signal.SIGKILL)
        self.transport.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self.exited.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was started."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self.transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It said something: keep the beginning of stdout and the end of stderr."""
        if fd == 1:
            self.output += data
            if len(self.output) > OUTPUT:
                self.ended.set()
        else:
            self.errors = (self.errors + data)[-REASON:]

    def pipe_connection_lost(self, fd: int, _exc: Exception | None) -> None:
        """It, or the last of those it started, has closed an output."""
        self.silent.add(fd)
        self._look()

    def process_exited(self) -> None:
        """It has ended; what it left running may keep its outputs open for ever."""
        assert self.transport is not None
        self.code = self.transport.get_returncode()
        self.exited.set()
        asyncio.get_running_loop().call_later(GRACE, self.ended.set)
        self._look()

    def _look(self) -> None:
        if self.code is not None and self.silent >= ({1} if self.code == 0 else {1, 2}):
            self.ended.set()


def _words(command: str | Sequence[str]) -> list[str]:
    """The program and its arguments; raises ConfigError quoting what is none."""
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise ConfigError(f"command = {command!r}: {str(error)[:1].lower()}{str(error)[1:]}") from error
    if not words or not words[0]:
        raise ConfigError(f"command = {command!r}: expected a program and its arguments")
    return [os.path.expanduser(words[0]), *words[1:]]  # noqa: PTH111 - a word, not always a path


def _look_for(program: str) -> None:
    if shutil.which(program) is not None:
        return
    if Path(program).is_file():
        raise ConfigError(f"the program {program!r} may not be run; try: chmod +x {shlex.quote(program)}")
    raise ConfigError(f"there is no program {program!r}{'' if '/' in program else ' in PATH; give its full path'}")


def _decoded(line: bytes) -> bytes | None:
    try:
        return b64decode(line.strip(), validate=True)
    except binascii.Error:
        return None


def _shown(line: bytes | bytearray) -> str:
    """A line of a program as text without control characters, shortened."""
    text = line.decode(errors="replace").strip()
    return "".join(each if each.isprintable() else "?" for each in text)[:300]


def _named(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code} ({signal.strsignal(-code)})"
    return f"exit code {code}"


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The backend of this file."""
    return [Exec]
