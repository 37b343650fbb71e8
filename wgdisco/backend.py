"""What a store is: Backend, Slot, Secret (the plugin surface, together with blocking.py and hookspecs.py).

A backend is a dumb, possibly dishonest store of bytes. It sees slots and opaque blobs, raises whatever its library
raises, and leaves deadlines, back-off, verification and choosing to the core.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from wgdisco.errors import ConfigError, RetryLater

__all__ = ["Backend", "RetryLater", "Secret", "Slot", "from_text", "ordinary", "to_text"]

T = TypeVar("T")
TEXT_PREFIX = "wgd1."
AT_ONCE = 16  # requests one backend has under way


def to_text(blob: bytes) -> str:
    """The text form of a blob, for stores that keep text: `wgd1.` and base64url without padding (SPEC section 4)."""
    return TEXT_PREFIX + base64.urlsafe_b64encode(blob).rstrip(b"=").decode()


def from_text(text: str) -> bytes | None:
    """The blob in a text, or None when the text is not ours; foreign text in a slot is never an error."""
    if not text.startswith(TEXT_PREFIX):
        return None
    body = text[len(TEXT_PREFIX) :]
    try:
        blob = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return blob if to_text(blob) == text else None


async def ordinary(work: Callable[[], Awaitable[T]]) -> T:
    """Call foreign code and await it; SystemExit and its like become ordinary errors, or they would end the event loop.

    The call itself is in here too: a method that is no coroutine raises at once.
    """
    try:
        return await work()
    except Exception:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("the plugin gave up its own call") from error
    except BaseException as error:
        raise RuntimeError(f"the plugin raised {type(error).__name__}") from error


def _cannot_sign(seq: int, value: bytes) -> bytes:
    raise PermissionError(f"only the subject of a slot can sign for it ({len(value)} bytes, seq {seq})")


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in a store: it belongs to one subject, one audience and one period (SPEC section 4).

    `id` is 20 bytes, `text` the same in 32 letters and digits that suit a file name, a DNS label or a topic, `public`
    the Ed25519 key (32 bytes) under which `sign(seq, value)` signs BEP 44's bytes. `seq` is the number of the record
    to put, `expires` the unix time in seconds when the slot's last record ends; both are 0 when reading.
    """

    id: bytes
    text: str
    public: bytes
    seq: int = field(default=0, compare=False)
    expires: int = field(default=0, compare=False)
    sign: Callable[[int, bytes], bytes] = field(default=_cannot_sign, repr=False, compare=False)


class Secret:
    """A password or token by reference; `reveal()` reads it, nothing prints it.

    Written as `{file = "/path"}`, `{env = "NAME"}` or `{credential = "name"}` (systemd) in a configuration file, and
    as `file:/path`, `env:NAME` or `credential:name` in `-o`.
    """

    __slots__ = ("_kind", "_name", "_value")

    def __init__(self, value: str = "") -> None:
        self._kind, self._name, self._value = "value", "", value

    @classmethod
    def parse(cls, reference: object) -> Self:
        """Read a reference; raises ConfigError for anything else, a plain password included."""
        if isinstance(reference, str) and reference.partition(":")[0] in ("file", "env", "credential"):
            kind, _, name = reference.partition(":")
            reference = {kind: name}
        if isinstance(reference, dict) and len(reference) == 1:
            kind, name = next(iter(reference.items()))
            if kind in ("file", "env", "credential") and isinstance(name, str) and name:
                secret = cls()
                secret._kind, secret._name = kind, name
                return secret
        raise ConfigError(
            "a secret is given by reference, never in plain: "
            '{file = "/path"}, {env = "NAME"} or {credential = "NAME"} (with -o: file:/path, env:NAME, credential:NAME)'
        )

    def reveal(self) -> str:
        """The secret itself, without a final newline; raises ConfigError when it cannot be read."""
        if self._kind == "value":
            return self._value
        if self._kind == "env":
            if self._name not in os.environ:
                raise ConfigError(f"the environment variable {self._name!r} is not set; it should hold a secret")
            return os.environ[self._name]
        path = Path(self._name)
        if self._kind == "credential":
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            if folder is None:
                raise ConfigError(f"credential {self._name!r}: systemd passes none; add LoadCredential= to the unit")
            path = Path(folder) / self._name
        try:
            return path.read_text().removesuffix("\n")
        except OSError as error:
            raise ConfigError(f"cannot read the secret in {str(path)!r}: {error.strerror or error}") from error
        except UnicodeDecodeError:
            # no cause: it holds the whole content
            raise ConfigError(f"cannot read the secret in {str(path)!r}: it is not text") from None

    def __bool__(self) -> bool:
        return self._kind != "value" or bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")

    def __repr__(self) -> str:
        return f"Secret({self._kind}:{self._name})" if self._kind != "value" else "Secret(…)"


class Backend:
    """A store. Subclass it as a dataclass: the fields are its options, the class constants say what it is like.

    A third-party backend overrides `put` and `get`, usually `open` and `close`, and the rest when its store can do
    better than the defaults.
    """

    name: ClassVar[str] = ""
    """What users type after `--backend`; equal to the entry point's name."""
    max_size: ClassVar[int] = 681
    """The largest blob in bytes that the store takes; 681 is the largest there is."""
    keeps: ClassVar[float | None] = None
    """Seconds after which the store forgets what is not put again; None when it keeps for the lifetime given."""
    poll: ClassVar[float] = 30.0
    """Seconds between two questions while following, for a store that cannot push (also an option)."""
    slow_writes: ClassVar[bool] = False
    """Whether the store limits writes, so that a longer lifetime should be chosen."""
    lasting: ClassVar[bool] = True
    """Whether the store keeps a record when the process that put it has ended."""
    cache: Path | None = None  # deliberately no field: the core sets it
    """A folder of this backend's own for what it may lose (set by the core; None: keep nothing)."""

    async def open(self) -> None:
        """Connect. Import the client library here: when it is missing, the core names the extra to install."""

    async def close(self) -> None:
        """Let go of everything `open` took. Called once, also after `open` failed."""

    async def moved(self) -> None:
        """The host has moved to other addresses: let go of connections from the old ones, which nobody will answer.

        The default does nothing. Where `open` is cheap, `await self.close()` and `await self.open()` will do.
        """

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Store `blob` under the slot for `lifetime` seconds, replacing what we put there before."""
        raise NotImplementedError(f"backend {self.name!r} cannot store")

    async def get(self, slot: Slot) -> list[bytes]:
        """Every value found in the slot, in any order; an empty list when there is none."""
        raise NotImplementedError(f"backend {self.name!r} cannot look up")

    async def remove(self, slot: Slot) -> None:
        """Forget what we put into the slot; the default leaves it to the store's own expiry."""

    async def watch(self, slot: Slot) -> AsyncGenerator[list[bytes], None]:
        """The slot's values now, and again at every change; the default asks every `poll` seconds."""
        before: list[bytes] | None = None
        while True:
            values = await self.get(slot)
            if before is None or sorted(values) != sorted(before):
                yield values
            before = values
            await asyncio.sleep(self.poll)

    async def fetch(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its values, as they arrive; ends after all. Override it where the store has a bulk read.

        A slot that fails does not hide the others: its error is raised after them.
        """
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(slot: Slot) -> tuple[Slot, list[bytes]]:
            async with limit:
                return slot, await ordinary(lambda: self.get(slot))

        tasks = [asyncio.ensure_future(one(slot)) for slot in slots]
        failed: Exception | None = None
        try:
            for done in asyncio.as_completed(tasks):
                try:
                    yield await done
                except Exception as error:  # noqa: BLE001 - raised below, after the slots that answered
                    failed = error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if failed is not None:
            raise failed

    async def follow(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its values, and again at every change, until closed. Override it for one watch over many.

        The default follows by `watch` where a backend has one of its own, else it polls all slots with `fetch`.
        """
        merged = self._polled(slots) if type(self).watch is Backend.watch else self._watched(slots)
        async with aclosing(merged):
            async for change in merged:
                yield change

    async def _polled(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        before: dict[bytes, list[bytes]] = {}
        while True:
            async with aclosing(self.fetch(slots)) as answers:
                async for slot, values in answers:
                    if before.get(slot.id) != sorted(values):
                        before[slot.id] = sorted(values)
                        yield slot, values
            await asyncio.sleep(self.poll)

    async def _watched(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        changes: asyncio.Queue[tuple[Slot, list[bytes]] | Exception] = asyncio.Queue(maxsize=AT_ONCE)

        async def forward(slot: Slot) -> None:
            async with aclosing(self.watch(slot)) as answers:
                async for values in answers:
                    await changes.put((slot, values))

        async def pump(slot: Slot) -> None:
            try:
                await ordinary(lambda: forward(slot))
                raise ConnectionError(f"the watch of backend {self.name!r} ended")  # noqa: TRY301 - raised for the same handler
            except Exception as error:  # noqa: BLE001 - raised below, in the task that follows
                await changes.put(error)

        pumps = [asyncio.ensure_future(pump(slot)) for slot in slots]
        try:
            while True:
                change = await changes.get()
                if isinstance(change, Exception):
                    raise change
                yield change
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
