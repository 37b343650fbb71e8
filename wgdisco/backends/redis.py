"""Redis or Valkey as a store: one key per slot that expires by itself, and a message on a channel at every change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from wgdisco.backend import Backend, Secret, Slot
from wgdisco.errors import ConfigError
from wgdisco.hookspecs import hookimpl

if TYPE_CHECKING:
    import redis.asyncio

__all__ = ["Redis", "wgdisco_backends"]

TIMEOUT = 5.0  # seconds for an answer
SCHEMES = ("redis", "rediss", "unix")


@dataclass
class Redis(Backend):
    """A Redis or Valkey server: records expire by themselves, changes are pushed within a millisecond."""

    name: ClassVar[str] = "redis"

    url: str = "redis://127.0.0.1:6379/0"
    """redis://HOST:PORT/DB, rediss://… with TLS, or unix:///path; without password."""
    prefix: str = "wgdisco:"
    """What every key and channel begins with; rights are granted on it."""
    user: str = ""
    """A user of the server's access control list; empty for `default`."""
    password: Secret = field(default_factory=Secret)
    ca: str = ""
    """File of the certificate authority (PEM) for rediss://; empty for the system's."""
    cert: str = ""
    """File of a client certificate (PEM); empty for none."""
    key: str = ""
    """File of its private key."""

    async def open(self) -> None:
        """Check the options, raising ConfigError; connections are made when needed."""
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._check()
        self._redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            self.url,
            protocol=2,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            # the core has its own back-off, and an outage should show at once
            retry=Retry(NoBackoff(), 0),
            **self._login(),
        )

    async def close(self) -> None:
        """Close the connections; what was stored stays until it expires."""
        client: redis.asyncio.Redis | None = getattr(self, "_redis", None)
        if client is not None:
            await client.aclose()

    async def moved(self) -> None:
        """Connect anew: nobody answers on connections from an address that has gone."""
        await self.close()
        await self.open()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Replace what the slot holds, and tell those who watch."""
        key = self._key(slot)
        async with self._redis.pipeline(transaction=False) as both:
            both.set(key, blob, px=1000 * lifetime)
            both.publish(key, b"")
            await both.execute()

    async def get(self, slot: Slot) -> list[bytes]:
        """What the slot holds: at most one value."""
        key = self._key(slot)
        return (await self._values([key]))[key]

    async def remove(self, slot: Slot) -> None:
        """Delete the slot's key, and tell those who watch."""
        key = self._key(slot)
        async with self._redis.pipeline(transaction=False) as both:
            both.delete(key)
            both.publish(key, b"")
            await both.execute()

    async def watch(self, slot: Slot) -> AsyncGenerator[list[bytes], None]:
        """The slot's value now, and again at every change."""
        async with aclosing(self.follow([slot])) as changes:
            async for _, values in changes:
                yield values

    async def fetch(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its value, by one command."""
        found = await self._values([self._key(slot) for slot in slots])
        for slot in slots:
            yield slot, found[self._key(slot)]

    async def follow(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its value, and again at every change: subscribe, then read, so that nothing falls between.

        All is read anew after `poll` seconds of silence: expiry is not told, and a frozen server says nothing.
        """
        keys = {self._key(slot): slot for slot in slots}
        before: dict[bytes, list[bytes]] = {}
        async with self._redis.pubsub() as news:
            await _subscribe(news, keys)
            changed: Iterable[bytes] = keys
            while True:
                for key, values in (await self._values(list(changed))).items():
                    if before.get(key) != values:
                        before[key] = values
                        yield keys[key], values
                message = await news.get_message(timeout=self.poll)
                known = message is not None and message["type"] == "message" and message["channel"] in keys
                changed = [message["channel"]] if message is not None and known else keys

    async def _values(self, keys: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        if not keys:
            return {}
        found = await self._redis.mget(keys)
        return {key: [value] if isinstance(value, bytes) else [] for key, value in zip(keys, found, strict=True)}

    def _key(self, slot: Slot) -> bytes:
        return f"{self.prefix}{slot.text}".encode()

    def _check(self) -> None:
        parts = urlsplit(self.url)
        if parts.password is not None or "password" in parse_qs(parts.query):
            raise ConfigError(
                "url holds a password, which would show in logs; leave it out and set password by reference"
            )
        if parts.scheme not in SCHEMES:
            raise ConfigError(f"url {self.url!r}: expected redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH")
        if not self.prefix:
            raise ConfigError("prefix '' would be the whole of the server; expected something like 'wgdisco:'")
        if (self.ca or self.cert or self.key) and parts.scheme != "rediss":
            raise ConfigError(f"ca, cert and key are for TLS, and url {self.url!r} has none; use rediss://")

    def _login(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.user:
            found["username"] = self.user
        if self.password:
            found["password"] = self.password.reveal()
        if self.url.startswith("rediss:"):
            found |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
            files = {"ssl_ca_certs": self.ca, "ssl_certfile": self.cert, "ssl_keyfile": self.key}
            found |= {name: path for name, path in files.items() if path}
        return found


async def _subscribe(news: redis.asyncio.client.PubSub, channels: Iterable[bytes]) -> None:
    """Subscribe, and wait until the server has said so for each."""
    missing = set(channels)
    await news.subscribe(*missing)
    async with asyncio.timeout(TIMEOUT):
        while missing:
            message = await news.get_message(timeout=TIMEOUT)
            if message is not None and message["type"] == "subscribe":
                missing.discard(message["channel"])


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [Redis]
