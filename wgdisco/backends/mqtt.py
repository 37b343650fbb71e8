"""MQTT 5 as a store: one retained message per slot that expires by itself, and every change is pushed."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from wgdisco.backend import Backend, Secret, Slot
from wgdisco.backends._mqtt_inbox import ANSWER
from wgdisco.backends._mqtt_session import Session
from wgdisco.errors import ConfigError, StoreError
from wgdisco.hookspecs import hookimpl

if TYPE_CHECKING:
    import aiomqtt

__all__ = ["MQTT", "wgdisco_backends"]

CONNECT = 2.0  # seconds for a connection, and for each step of a TLS handshake
PATIENCE, PAUSE = 5.0, 0.5  # seconds without a broker until a watch ends, and between two attempts
LARGEST = 8192  # bytes of a packet that the broker may send; a record takes less than 800
WRITES = 16  # at once: each has its own time limit, and a broker sends so many messages before the first is confirmed
CALLS = 1000  # under way before the library warns
HINT = "the ACL has to allow publishing and reading below the prefix, and the broker to retain messages"


@dataclass
class MQTT(Backend):
    """Retained messages on an MQTT 5 broker: they expire by themselves, and changes are pushed at once."""

    name: ClassVar[str] = "mqtt"

    host: str = "localhost"
    """The broker's name or address."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Its port; 0 for 1883, with TLS 8883."""
    prefix: str = "wgdisco/"
    """What every topic begins with; rights are granted on it."""
    user: str = ""
    """A user of the broker, with `password`; empty for none."""
    password: Secret = field(default_factory=Secret)
    tls: bool = False
    """Whether to use TLS."""
    ca: str = ""
    """File of the certificate authority (PEM); empty for the system's."""
    cert: str = ""
    """File of a client certificate (PEM); empty for none."""
    key: str = ""
    """File of its private key; empty when it is in `cert`."""
    keepalive: Annotated[int, Meta(ge=1, le=3600)] = 15
    """Seconds between two signs of life; a frozen broker is noticed after twice as long."""

    async def open(self) -> None:
        """Read certificates and check the options, raising ConfigError; the connection is made when needed."""
        import aiomqtt  # noqa: F401 - a missing library has to show here

        _check_prefix(self.prefix)
        if bool(self.user) != bool(self.password):
            raise ConfigError(f"user {self.user!r} and password go together, and only one of them is set")
        self._context = self._tls()
        self._turn = asyncio.Semaphore(WRITES)
        self._port = self.port or (8883 if self.tls else 1883)
        self._session = Session(f"{self.host}:{self._port}", self.prefix, self._client)

    async def close(self) -> None:
        """Close the connection; what was stored stays until it expires."""
        session: Session | None = getattr(self, "_session", None)
        if session is not None:
            await session.close()

    async def moved(self) -> None:
        """Connect anew: nobody answers on connections from an address that has gone."""
        await self.close()
        await self.open()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Replace what the slot holds, and read it back: a publication that the ACL forbids is acknowledged, too.

        Raises ConnectionError or StoreError.
        """
        async with self._turn:
            await self._session.publish(self._topic(slot), blob, lifetime)
            kept = await self.get(slot)
        if kept != [blob]:
            raise StoreError(f"the broker did not keep {self._topic(slot)!r}; {HINT}")

    async def get(self, slot: Slot) -> list[bytes]:
        """What the slot holds: at most one value. Raises ConnectionError or StoreError."""
        async with aclosing(self.fetch([slot])) as answers:
            return (await anext(answers))[1]

    async def remove(self, slot: Slot) -> None:
        """Replace the retained message by none."""
        async with self._turn:
            await self._session.publish(self._topic(slot), b"", 0)
            kept = await self.get(slot)
        if kept:
            raise StoreError(f"the broker did not remove {self._topic(slot)!r}; {HINT}")

    async def watch(self, slot: Slot) -> AsyncGenerator[list[bytes], None]:
        """The slot's value now, and again at every change."""
        async with aclosing(self.follow([slot])) as changes:
            async for _, values in changes:
                yield values

    async def fetch(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its value, by one subscription to all."""
        async with self._session.listening([*map(self._topic, slots)]) as inbox:
            found = await inbox.first()
        for slot in slots:
            yield slot, _values(found.get(self._topic(slot), b""))

    async def follow(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its value, and again at every change; goes on over short outages, and gives up after 5 s."""
        topics, known = {self._topic(slot): slot for slot in slots}, dict[str, bytes]()
        down: float | None = None
        while True:
            try:
                async with aclosing(self._changes([*topics])) as changes:
                    async for topic, payload in changes:
                        down = None
                        if known.get(topic) != payload:
                            known[topic] = payload
                            yield topics[topic], _values(payload)
            except ConnectionError:
                down = down or time.monotonic()
                if time.monotonic() - down > PATIENCE:
                    raise
            await asyncio.sleep(PAUSE)

    async def _changes(self, topics: Sequence[str]) -> AsyncGenerator[tuple[str, bytes], None]:
        """Each topic with what is retained, b'' for nothing, and then every change."""
        async with self._session.listening(topics) as inbox:
            found = await inbox.first()
            for topic in topics:
                yield topic, found.get(topic, b"")
            while True:
                for topic, payload in (await inbox.news()).items():
                    yield topic, payload

    def _topic(self, slot: Slot) -> str:
        return f"{self.prefix}{slot.text}"

    def _client(self) -> aiomqtt.Client:
        """A client that is not connected; the library makes the connection in a thread, so that has to be short."""
        import aiomqtt
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho is half typed
        properties.MaximumPacketSize = LARGEST
        client = aiomqtt.Client(
            self.host,
            self._port,
            username=self.user or None,
            password=self.password.reveal() if self.user else None,
            protocol=aiomqtt.ProtocolVersion.V5,
            timeout=ANSWER,
            keepalive=self.keepalive,
            properties=properties,
            tls_context=self._context,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            logger=logging.Logger("mqtt", logging.CRITICAL),  # noqa: LOG001 - mute: every error is raised, too
        )
        client.pending_calls_threshold = CALLS
        client._client.connect_timeout = CONNECT  # noqa: SLF001 - aiomqtt does not pass it on
        client._disconnected.add_done_callback(_retrieve)  # noqa: SLF001 - or asyncio complains of what nobody awaits
        return client

    def _tls(self) -> ssl.SSLContext | None:
        given = {"ca": self.ca, "cert": self.cert, "key": self.key}
        if not self.tls:
            for option in filter(given.get, given):
                raise ConfigError(f"{option} {given[option]!r} is for TLS; set tls = true too")
            return None
        if self.key and not self.cert:
            raise ConfigError(f"key {self.key!r} is set without cert; expected the client's certificate too")
        try:
            made = ssl.create_default_context(cafile=self.ca or None)
        except OSError as error:
            raise ConfigError(f"ca {self.ca!r}: {error.strerror or error}; expected certificates in PEM") from error
        made.sslsocket_class = _QuickSocket
        try:
            if self.cert:
                made.load_cert_chain(self.cert, self.key or None, password=lambda: "")
        except OSError as error:
            files = f"cert {self.cert!r}, key {self.key!r}"
            raise ConfigError(f"{files}: {error.strerror or error}; expected PEM files that belong together") from error
        return made


class _QuickSocket(ssl.SSLSocket):
    """Gives up a handshake that stands still: it happens in a thread for which the end of the process waits."""

    def do_handshake(self, block: bool = False) -> None:  # the signature is the standard library's
        """Shake hands, each step within two seconds."""
        self.settimeout(CONNECT)  # paho before 2.2 would wait for the keepalive
        try:
            super().do_handshake(block)
        except OSError:
            self.close()  # the library forgets it
            raise


def _retrieve(disconnected: asyncio.Future[None]) -> None:
    if not disconnected.cancelled():
        disconnected.exception()


def _values(payload: bytes) -> list[bytes]:
    return [payload] if payload else []


def _check_prefix(prefix: str) -> None:
    """Raise ConfigError for what no topic may begin with (MQTT 5 section 4.7)."""
    if not prefix.endswith("/") or prefix.startswith(("$", "/")) or set("+#\0") & set(prefix):
        raise ConfigError(f"prefix {prefix!r}: expected levels that end in a slash, without + and #, as 'wgdisco/'")


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [MQTT]
