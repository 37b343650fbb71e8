"""The record and its signed statement: what a node says about where it can be reached (SPEC sections 2 and 3)."""

from __future__ import annotations

from enum import IntEnum
from ipaddress import ip_address
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from wgdisco.endpoint import Endpoint
from wgdisco.errors import RecordRefused
from wgdisco.keys import PrivateKey, PublicKey, verify

__all__ = ["Candidate", "Head", "Kind", "Record", "decode_body", "decode_head", "encode", "sign", "verified"]

DOMAIN = "wgdisco record v1"
LIFETIME = 3600  # seconds, the default
SHORTEST, LONGEST = 60, 86400  # seconds
MOST_CANDIDATES = 16
DEEPEST = 8  # levels of a hint
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Kind(IntEnum):
    """How the subject knows a candidate (SPEC section 2)."""

    HOST = 0
    SERVER_REFLEXIVE = 1
    MAPPED = 2
    OBSERVED = 3


class Candidate(NamedTuple):
    """An endpoint where the subject may be reached, and how it knows."""

    kind: Kind
    endpoint: Endpoint

    def __str__(self) -> str:
        return f"{self.endpoint} ({self.kind.name.lower().replace('_', '-')})"


class Record(Struct, frozen=True, kw_only=True):
    """One whole candidate set of one node for one audience, as of `issued`.

    `network` is the audience's 16 bytes, `issued` milliseconds since 1970, `lifetime` seconds, `candidates` best first;
    none means that the node is leaving. `must` names extensions a reader has to understand.
    """

    subject: PublicKey
    network: bytes
    issued: int
    lifetime: int = LIFETIME
    candidates: tuple[Candidate, ...] = ()
    must: tuple[str, ...] = ()
    hints: dict[str, Any] = {}

    @property
    def end(self) -> int:
        """When the record expires, in milliseconds since 1970."""
        return self.issued + 1000 * self.lifetime


_Unsigned = Annotated[int, Meta(ge=0)]


class Head(Struct, frozen=True, array_like=True):
    """The part of a payload that is judged first; candidates and hints stay undecoded until it is marked."""

    subject: Annotated[bytes, Meta(min_length=32, max_length=32)]
    network: Annotated[bytes, Meta(min_length=16, max_length=16)]
    issued: _Unsigned
    lifetime: Annotated[int, Meta(ge=SHORTEST, le=LONGEST)]
    candidates: Raw
    must: tuple[str, ...]
    hints: Raw


_Triples = Annotated[list[tuple[_Unsigned, bytes, _Unsigned]], Meta(max_length=MOST_CANDIDATES)]
_KINDS = frozenset(int(kind) for kind in Kind)
_head = msgspec.msgpack.Decoder(Head)
_candidates = msgspec.msgpack.Decoder(_Triples)
_hints = msgspec.msgpack.Decoder(dict[str, Any])


def encode(record: Record) -> bytes:
    """The payload: MessagePack of the seven elements; raises ValueError when a field is out of range."""
    if not SHORTEST <= record.lifetime <= LONGEST:
        raise ValueError(f"lifetime {record.lifetime} s: expected {SHORTEST} to {LONGEST}")
    if len(record.candidates) > MOST_CANDIDATES:
        raise ValueError(f"{len(record.candidates)} candidates: expected at most {MOST_CANDIDATES}")
    triples = [(int(kind), endpoint.address.packed, endpoint.port) for kind, endpoint in record.candidates]
    fields = (
        record.subject.raw,
        record.network,
        record.issued,
        record.lifetime,
        triples,
        list(record.must),
        record.hints,
    )
    return msgspec.msgpack.encode(fields)


def sign(payload: bytes, private: PrivateKey) -> bytes:
    """The statement: 64 bytes of signature and the payload (SPEC section 3)."""
    return private.sign(DOMAIN, payload) + payload


def verified(statement: bytes, subject: PublicKey) -> bytes:
    """The payload of a statement that `subject` signed; raises RecordRefused (`malformed`, `signature`)."""
    if len(statement) < 64:
        raise RecordRefused("malformed", f"a statement of {len(statement)} bytes has no room for a signature")
    signature, payload = statement[:64], statement[64:]
    if not verify(subject.edwards, b"wgdisco record v1\0" + payload, signature):
        raise RecordRefused("signature", f"not signed by {subject.short}")
    return payload


def decode_head(payload: bytes) -> Head:
    """Decode what is judged first; raises RecordRefused (`malformed`)."""
    try:
        return _head.decode(payload)
    except UNREADABLE as error:
        raise RecordRefused("malformed", str(error)) from error


def decode_body(head: Head, subject: PublicKey) -> Record:
    """Decode candidates and hints; raises RecordRefused (`malformed`). Candidates of unknown kinds are skipped."""
    try:
        triples, hints = _candidates.decode(head.candidates), _hints.decode(head.hints)
    except UNREADABLE as error:
        raise RecordRefused("malformed", str(error)) from error
    return Record(
        subject=subject,
        network=head.network,
        issued=head.issued,
        lifetime=head.lifetime,
        candidates=tuple(_candidate(*triple) for triple in triples if triple[0] in _KINDS),
        must=head.must,
        hints={name: hint for name, hint in hints.items() if _plain(hint)},
    )


def _plain(value: object, levels: int = DEEPEST) -> bool:
    """Whether a hint is of JSON's types and bytes; other hints are left out, so that nobody stumbles over them."""
    if isinstance(value, dict):
        return levels > 0 and all(isinstance(name, str) and _plain(each, levels - 1) for name, each in value.items())
    if isinstance(value, list):
        return levels > 0 and all(_plain(each, levels - 1) for each in value)
    return value is None or isinstance(value, bool | int | float | str | bytes)


def _candidate(kind: int, address: bytes, port: int) -> Candidate:
    if len(address) not in (4, 16) or not 1 <= port <= 65535:
        raise RecordRefused("malformed", f"a candidate of {len(address)} address bytes and port {port}")
    return Candidate(Kind(kind), Endpoint(ip_address(address), port))
