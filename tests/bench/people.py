"""Thousands of peers for the benches: their keys, their signed and sealed records, and where those lie in etcd."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.backends.etcdserver import EtcdServer
from wgdisco.audience import Audience
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PrivateKey
from wgdisco.record import Candidate, Kind, Record, encode, sign

__all__ = ["SECRET", "Person", "allowed", "endpoint", "fill", "lines", "people", "person"]

SECRET = bytes(range(32))  # of the network all are members of
INSIDE, OUTSIDE, LAN = (IPv4Address(first) for first in ("10.0.0.2", "198.18.0.1", "192.168.0.1"))
LIFETIME = 3600  # seconds
OPERATIONS = 100  # in a transaction; etcd takes 128


@dataclass(frozen=True)
class Person:
    """A peer by its number: its public key, and its latest blob by the slots it belongs into (as text)."""

    number: int
    public: bytes
    blobs: dict[str, bytes]


def endpoint(number: int, port: int = 51820) -> Endpoint:
    """Where a peer can be reached."""
    return Endpoint(OUTSIDE + number, port)


def allowed(number: int) -> str:
    """Its address inside the tunnel."""
    return f"{INSIDE + number}/32"


def person(number: int, port: int = 51820) -> Person:
    """A peer that says now that it is at this port, and inside its own network at another address."""
    private = PrivateKey(hashlib.sha256(f"peer {number}".encode()).digest())
    network, now = Audience.members(SECRET), time.time_ns() // 1_000_000
    record = Record(
        subject=private.public,
        network=network.network,
        issued=now,
        lifetime=LIFETIME,
        candidates=(
            Candidate(Kind.HOST, Endpoint(LAN + number, 51820)),
            Candidate(Kind.SERVER_REFLEXIVE, endpoint(number, port)),
        ),
        hints={"checks": True, "nat": ["endpoint-independent", "address-and-port-dependent"]},
    )
    statement = sign(encode(record), private)
    places = network.writable(private.public, now, record.end)
    return Person(number, private.public.raw, {place.text: place.seal(statement) for place in places})


def people(count: int) -> list[Person]:
    """So many, made by all processors."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(person, range(count), chunksize=100))


def fill(etcd: EtcdServer, several: Iterable[Person], lifetime: int = LIFETIME) -> None:
    """Put their records, all under one lease, in transactions of a hundred."""
    lease = etcd.api("lease/grant", TTL=lifetime)["ID"]
    puts = [
        {"request_put": {"key": f"/wgdisco/{slot}".encode(), "value": blob, "lease": lease}}
        for each in several
        for slot, blob in each.blobs.items()
    ]
    for start in range(0, len(puts), OPERATIONS):
        answer = etcd.api("kv/txn", success=puts[start : start + OPERATIONS])
        if not answer.get("succeeded"):
            raise SystemExit(f"etcd took no records: {answer}")


def lines(several: Sequence[Person]) -> list[str]:
    """What makes them peers of a WireGuard interface, without endpoints (wireguard.com/xplatform)."""
    return [
        line for each in several for line in (f"public_key={each.public.hex()}", f"allowed_ip={allowed(each.number)}")
    ]
