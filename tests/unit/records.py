"""Keys, records and blobs for tests."""

from __future__ import annotations

from ipaddress import ip_address

from wgdisco.audience import Audience, Place
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PrivateKey
from wgdisco.record import Candidate, Kind, Record, encode, sign

NOW = 1_795_233_600_000
W, M = 300_000, 1_000  # SPEC section 5
ALICE, BOB, MALLORY = PrivateKey(b"a" * 32), PrivateKey(b"b" * 32), PrivateKey(b"m" * 32)
NET = Audience.members(b"s" * 32)


def candidate(text: str = "192.0.2.1:51820", kind: Kind = Kind.SERVER_REFLEXIVE) -> Candidate:
    return Candidate(kind, Endpoint.parse(text))


def record(issued: int = NOW, audience: Audience = NET, subject: PrivateKey = ALICE, **fields) -> Record:
    fields.setdefault("candidates", (candidate(),))
    return Record(subject=subject.public, network=audience.network, issued=issued, **fields)


def here(audience: Audience = NET, subject: PrivateKey = ALICE, now: int = NOW) -> Place:
    """The place of the period at `now`."""
    return audience.place(subject.public, audience.period(subject.public, now))


def sealed(said: Record | None = None, place: Place | None = None, signer: PrivateKey = ALICE) -> bytes:
    """A blob as it lies in a store."""
    return (place or here()).seal(sign(encode(said or record()), signer))


def sealed_payload(payload: bytes, place: Place | None = None, signer: PrivateKey = ALICE) -> bytes:
    """A blob of any payload, signed in earnest."""
    return (place or here()).seal(sign(payload, signer))


def mixed(number: int) -> tuple[Candidate, ...]:
    """So many candidates, IPv4 and IPv6 in turn."""
    return tuple(
        Candidate(Kind.HOST, Endpoint(ip_address(f"2001:db8::{i:x}" if i % 2 else f"203.0.113.{i}"), 51820))
        for i in range(number)
    )
