"""etcd as a store: one key per slot under a prefix, leases for expiry, one watch for everything that changes.

It speaks etcd's v3 JSON gateway (etcd 3.4 and newer), because no client library has TLS, leases, several endpoints
and a watch that resumes all at once; python-etcd3 is not even importable beside a current protobuf.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from msgspec import Meta

from wgdisco.backend import Backend, Secret, Slot
from wgdisco.backends._etcd_gateway import Gateway
from wgdisco.backends._etcd_leases import Lease, Leases
from wgdisco.backends._etcd_messages import Nothing, Refused, TooMuch, Transaction
from wgdisco.backends._etcd_tls import context
from wgdisco.backends._etcd_view import PATIENCE, PAUSE, View
from wgdisco.errors import ConfigError, StoreError
from wgdisco.hookspecs import hookimpl

__all__ = ["Etcd", "wgdisco_backends"]

# slots from which on the whole prefix is read: fewer cost at most 21 kB by name, while a prefix may hold 1 MB; who
# asks for more has many peers, and a range tells the store nothing about which
SEVERAL = 16
TRIES = 3  # to replace a key that somebody else is writing too
NOT_FOUND = 5  # gRPC status of a lease that is gone


@dataclass
class Etcd(Backend):
    """A cluster of etcd: records expire by lease, changes are pushed within milliseconds."""

    name: ClassVar[str] = "etcd"
    endpoints: list[str] = field(default_factory=lambda: ["http://127.0.0.1:2379"])
    """URLs of the members' client ports, tried in this order."""
    prefix: str = "/wgdisco/"
    """What every key begins with; rights are granted on it."""
    user: str = ""
    """A user of etcd's own, with `password`; empty for none."""
    password: Secret = field(default_factory=Secret)
    """The password of that user."""
    ca: str = ""
    """File of the certificate authority (PEM); empty for the system's."""
    cert: str = ""
    """File of a client certificate (PEM) without a CommonName; empty for none."""
    key: str = ""
    """File of its private key; empty when it is in `cert`."""
    heartbeat: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds of silence after which a watch is attached anew, so that a frozen server is noticed."""

    async def open(self) -> None:
        """Read certificates and check the options, raising ConfigError; connections are made when needed."""
        if not self.prefix:
            raise ConfigError("prefix '' would be the whole of etcd; expected something like '/wgdisco/'")
        if bool(self.user) != bool(self.password):
            raise ConfigError(f"user {self.user!r} and password go together, and only one of them is set")
        tls = context(self.endpoints, self.ca, self.cert, self.key)
        self._gateway = Gateway([url.rstrip("/") for url in self.endpoints], tls, self.user, self.password)
        self._leases = Leases(self._gateway)
        self._view = View(self._gateway, self.prefix, self.heartbeat)

    async def close(self) -> None:
        """Close the connections; what was stored stays until it expires."""
        gateway: Gateway | None = getattr(self, "_gateway", None)
        if gateway is not None:
            await gateway.close()

    async def moved(self) -> None:
        """Connect anew: nobody answers on connections from an address that has gone."""
        await self.close()
        await self.open()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Replace what the slot holds; raises Refused or ConnectionError."""
        key = self._key(slot)
        lease = await self._leases.join(key, lifetime)
        try:
            lease.keys[key] = await self._replace(key, blob, lease)
        except Refused as refused:
            if refused.code != NOT_FOUND:
                raise
            # gone behind our back: this machine slept, or etcd was restored from a backup
            self._leases.forget(lease)
            lease = await self._leases.join(key, lifetime)
            lease.keys[key] = await self._replace(key, blob, lease)
        await self._leases.release(key, keep=lease)

    async def get(self, slot: Slot) -> list[bytes]:
        """What the slot holds: at most one value."""
        key = self._key(slot)
        _, found = await self._view.points([key])
        return [found[key]] if key in found else []

    async def remove(self, slot: Slot) -> None:
        """Delete the slot's key."""
        key = self._key(slot)
        await self._gateway.call("kv/deleterange", {"key": key}, Nothing)
        await self._leases.release(key)

    async def watch(self, slot: Slot) -> AsyncGenerator[list[bytes], None]:
        """The slot's value now, and again at every change."""
        async with aclosing(self.follow([slot])) as changes:
            async for _, values in changes:
                yield values

    async def fetch(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its value; from 16 slots on by one range, which tells the store nothing about whom we ask."""
        keys = {self._key(slot): slot for slot in slots}
        _, found = await (self._view.everything(keys) if len(keys) >= SEVERAL else self._view.points([*keys]))
        for key, slot in keys.items():
            yield slot, [found[key]] if key in found else []

    async def follow(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its value, and again at every change: a range at some revision, then a watch from there on.

        Whatever ends the watch (a compaction, say) leads back to the range, so nothing is missed.
        """
        keys = {self._key(slot): slot for slot in slots}
        known: dict[bytes, bytes | None] = {}
        refused_at = -math.inf
        while True:
            revision, found = await self._view.everything(keys)
            for key, slot in keys.items():
                if key not in known or known[key] != found.get(key):
                    known[key] = found.get(key)
                    yield slot, [found[key]] if key in found else []
            try:
                async with aclosing(self._view.changes(revision + 1)) as changes:
                    async for event in changes:
                        key, value = event.kv.key, None if event.type == "DELETE" else event.kv.value
                        if key in keys and known[key] != value:
                            known[key] = value
                            yield keys[key], [] if value is None else [value]
            except (Refused, TooMuch):
                # a lost token looks like missing rights, and the range renews it; what comes twice is meant
                if time.monotonic() - refused_at < PATIENCE:
                    raise
                refused_at = time.monotonic()
            await asyncio.sleep(PAUSE)

    def _key(self, slot: Slot) -> bytes:
        return f"{self.prefix}{slot.text}".encode()

    async def _replace(self, key: bytes, blob: bytes, lease: Lease) -> int:
        """Put a value over the one we know of, and return its revision.

        A put whose answer was lost is repeated at another endpoint; comparing revisions makes that harmless, even when
        a frozen member comes to the first one much later.
        """
        put = {"request_put": {"key": key, "value": blob, "lease": lease.id}}
        look = {"request_range": {"key": key}}
        revision = self._leases.revision(key)
        for _ in range(TRIES):
            compare = {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision}
            answer = await self._gateway.call(
                "kv/txn", {"compare": [compare], "success": [put], "failure": [look]}, Transaction
            )
            if answer.succeeded:
                return answer.header.revision
            there = next(answer.found(), None)
            revision = there.mod_revision if there is not None else 0
            if there is not None and there.value == blob and there.lease == lease.id:
                return revision  # the one whose answer was lost
        raise StoreError(f"the key {key.decode()!r} changed under {TRIES} attempts to replace it; who else writes it?")


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [Etcd]
