"""NATS JetStream as a store: one key per slot in a key-value bucket, and every change pushed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from wgdisco.backend import Backend, Secret, Slot
from wgdisco.backends._nats_line import TIMEOUT, Line, context
from wgdisco.errors import ConfigError
from wgdisco.hookspecs import hookimpl

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = ["Nats", "wgdisco_backends"]

OPERATION = "KV-Operation"  # the header of a message that says DEL or PURGE


@dataclass
class Nats(Backend):
    """A bucket of NATS JetStream (2.9 and newer): changes are pushed within a millisecond."""

    name: ClassVar[str] = "nats"

    servers: list[str] = field(default_factory=lambda: ["nats://127.0.0.1:4222"])
    """nats://HOST:PORT, or tls://HOST:PORT; of several one is used, and another one when it fails."""
    bucket: str = "wgdisco"
    """The bucket; it is made when it is missing and we may."""
    user: str = ""
    """A user of the server's, with `password`."""
    password: Secret = field(default_factory=Secret)
    token: Secret = field(default_factory=Secret)
    """A token instead of a user."""
    ca: str = ""
    """File of the certificate authority (PEM) for tls://; empty for the system's."""
    cert: str = ""
    """File of a client certificate (PEM); empty for none."""
    key: str = ""
    """File of its private key; empty when it is in `cert`."""

    async def open(self) -> None:
        """Check the options, raising ConfigError; the connection is made when needed."""
        import nats  # noqa: F401 - so that a missing library is told first

        for server in self.servers:
            parts = urlsplit(server)
            if "@" in parts.netloc:
                raise ConfigError("servers hold a user or password, which shows in logs; use user, password or token")
            if parts.scheme not in ("nats", "tls") or not parts.hostname:
                raise ConfigError(f"server {server!r}: expected nats://HOST:PORT or tls://HOST:PORT")
        if not self.servers:
            raise ConfigError("servers is empty: expected at least one, as nats://HOST:PORT")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.bucket):
            raise ConfigError(f"bucket {self.bucket!r}: expected letters, digits, - and _")
        if bool(self.user) != bool(self.password):
            raise ConfigError(f"user {self.user!r} and password go together, and only one of them is set")
        tls = context(self.servers, self.ca, self.cert, self.key)
        self._line = Line(self.servers, self.bucket, lambda: self._login() | ({"tls": tls} if tls else {}))

    async def close(self) -> None:
        """Close the connection; what was stored stays for a day."""
        line: Line | None = getattr(self, "_line", None)
        if line is not None:
            await line.close()

    async def moved(self) -> None:
        """Connect anew: nobody answers on connections from an address that has gone."""
        await self.close()
        await self.open()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:  # noqa: ARG002 - one for the whole bucket
        """Replace what the slot holds; the bucket forgets it after a day."""
        _, bucket = await self._line.opened()
        await self._line.asked(slot.text, bucket.put(slot.text, blob))

    async def get(self, slot: Slot) -> list[bytes]:
        """What the slot holds: at most one value."""
        from nats.js.errors import KeyNotFoundError

        _, bucket = await self._line.opened()
        try:
            entry = await self._line.asked(slot.text, bucket.get(slot.text))
        except KeyNotFoundError:
            return []
        return [entry.value or b""]

    async def remove(self, slot: Slot) -> None:
        """Purge the slot's key."""
        _, bucket = await self._line.opened()
        await self._line.asked(slot.text, bucket.purge(slot.text))

    async def watch(self, slot: Slot) -> AsyncGenerator[list[bytes], None]:
        """The slot's value now, and again at every change."""
        async with aclosing(self.follow([slot])) as changes:
            async for _, values in changes:
                yield values

    async def follow(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its value, and again at every change; raises ConnectionError when the connection ends.

        A bucket's subjects are listened to as any other, without a consumer on the server: what is put goes to us as
        well as into the bucket. After `poll` seconds of silence, and when something was lost, all is read anew.
        """
        places = {slot.text: slot for slot in slots}
        before: dict[str, list[bytes]] = {}
        news = _News()
        client, _ = await self._line.opened()
        with self._line.listening(news.look):
            subscriptions = await self._subscribe(client, places, news)
            try:
                while True:
                    for text, values in (await self._changes(slots, news)).items():
                        if before.get(text) != values:
                            before[text] = values
                            yield places[text], values
                    await news.wait(self.poll)
                    if client.is_closed:
                        raise ConnectionError("the connection to the server ended")
            finally:
                for each in subscriptions:
                    with suppress(Exception):  # with the connection they are gone too
                        await each.unsubscribe()

    async def _subscribe(self, client: Client, places: Iterable[str], news: _News) -> list[Subscription]:
        """Listen to the slots; the server has agreed when this returns."""

        async def heard(message: Msg) -> None:
            gone = OPERATION in (message.headers or {})
            news.tell(message.subject.rpartition(".")[2], [] if gone else [message.data])

        async def subscribe() -> list[Subscription]:
            made = [await client.subscribe(f"$KV.{self.bucket}.{text}", cb=heard) for text in places]
            await client.flush(TIMEOUT)  # its ping goes out ahead of what is queued,
            await client.flush(TIMEOUT)  # so only the second one says that the server has seen it
            return made

        try:
            return await self._line.asked(f"$KV.{self.bucket}.", subscribe())
        except BaseException:
            # half of them: nobody would end these
            await self._line.close()
            raise

    async def _changes(self, slots: Sequence[Slot], news: _News) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        if news.again:
            news.again = False
            async with aclosing(self.fetch(slots)) as answers:
                found = {slot.text: values async for slot, values in answers}
        # what came meanwhile is as new as what was read, or newer
        return found | news.take()

    def _login(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.user:
            found |= {"user": self.user, "password": self.password.reveal()}
        if self.token:
            found["token"] = self.token.reveal()
        return found


class _News:
    """What was heard and not yet told, at most one value a slot; `again` when all has to be read anew."""

    def __init__(self) -> None:
        self.again = True
        self._values: dict[str, list[bytes]] = {}
        self._event = asyncio.Event()

    def tell(self, text: str, values: list[bytes]) -> None:
        self._values[text] = values
        self._event.set()

    def look(self) -> None:
        self.again = True
        self._event.set()

    def take(self) -> dict[str, list[bytes]]:
        values, self._values = self._values, {}
        return values

    async def wait(self, seconds: float) -> None:
        """Until there is something, or it was quiet for so long that all is read anew."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            self.again = True
        self._event.clear()


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [Nats]
