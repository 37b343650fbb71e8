"""KRPC messages (BEP 5, with BEP 32, 42 and 43): bytes to Query, Reply or Failure, and back. Sans I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from wgdisco.bep44.bencode import BencodeError, decode, encode
from wgdisco.bep44.contact import ID, Contact, compact, endpoint_from, unpack
from wgdisco.endpoint import Endpoint

__all__ = ["Code", "Failure", "KrpcError", "Message", "Query", "Refusal", "Reply", "read"]

LARGEST = 2048  # bytes of a datagram that we look at


class Code(IntEnum):
    """Why a query failed (BEP 5 to 204, BEP 44 from 205)."""

    GENERIC = 201
    SERVER = 202
    PROTOCOL = 203
    UNKNOWN_METHOD = 204
    TOO_BIG = 205
    SIGNATURE = 206
    SALT_TOO_BIG = 207
    CAS_MISMATCH = 301
    OLD_SEQ = 302


class KrpcError(ValueError):
    """Bytes that are no KRPC message; the only error `read` raises."""


class Refusal(Exception):  # noqa: N818 - an answer to a query, not a fault of ours
    """A query that is answered with an error: `code` and a text in lower case."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Query:
    """A question: transaction (1 … 32 bytes), method, arguments; `read_only` nodes want no queries (BEP 43)."""

    transaction: bytes
    method: bytes
    arguments: Mapping[bytes, Any]
    read_only: bool = False

    def field(self, name: bytes, size: int) -> bytes:
        """An argument of exactly `size` bytes; raises Refusal."""
        value = self.arguments.get(name)
        if not isinstance(value, bytes) or len(value) != size:
            raise Refusal(Code.PROTOCOL, f"{name.decode()} is missing or has not {size} bytes")
        return value

    def encode(self) -> bytes:
        """The bytes of the datagram."""
        message = {b"t": self.transaction, b"y": b"q", b"q": self.method, b"a": dict(self.arguments)}
        return encode(message | {b"ro": 1} if self.read_only else message)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `observed` is the endpoint at which the answering node saw us (BEP 42)."""

    transaction: bytes
    values: Mapping[bytes, Any]
    observed: Endpoint | None = None

    @property
    def id(self) -> bytes:
        """The node that answers, 20 bytes (`read` has checked it)."""
        return bytes(self.values[b"id"])

    @property
    def token(self) -> bytes | None:
        """What allows a put for the target that was asked for."""
        token = self.values.get(b"token")
        return token if isinstance(token, bytes) and len(token) <= 64 else None

    @property
    def contacts(self) -> list[Contact]:
        """The nodes it points to, of both address families."""
        lists = (self.values.get(b"nodes"), 4), (self.values.get(b"nodes6"), 6)
        return [contact for data, version in lists if isinstance(data, bytes) for contact in unpack(data, version)]

    def encode(self) -> bytes:
        """The bytes of the datagram."""
        return encode({b"t": self.transaction, b"y": b"r", b"r": dict(self.values)} | _ip(self.observed))


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in answer to a query: a code of BEP 5 or BEP 44 and a text."""

    transaction: bytes
    code: int
    text: str
    observed: Endpoint | None = None

    def encode(self) -> bytes:
        """The bytes of the datagram."""
        error = [int(self.code), self.text.encode()]
        return encode({b"t": self.transaction, b"y": b"e", b"e": error} | _ip(self.observed))


Message = Query | Reply | Failure


def _ip(observed: Endpoint | None) -> dict[bytes, bytes]:
    return {} if observed is None else {b"ip": compact(observed)}


def read(data: bytes) -> Message:
    """The message in one datagram; raises KrpcError. A `v` inside stays as it was written (BEP 44)."""
    if len(data) > LARGEST:
        raise KrpcError(f"{len(data)} bytes, expected at most {LARGEST}")
    try:
        message = decode(data, raw_key=b"v")
    except BencodeError as error:
        raise KrpcError(str(error)) from error
    if not isinstance(message, dict):
        raise KrpcError(f"{type(message).__name__} instead of a dictionary")
    transaction = message.get(b"t")
    if not isinstance(transaction, bytes) or not 0 < len(transaction) <= 32:
        raise KrpcError("no transaction id of 1 to 32 bytes")
    match message.get(b"y"):
        case b"q":
            return _read_query(transaction, message)
        case b"r":
            return _read_reply(transaction, message)
        case b"e":
            return _read_failure(transaction, message)
    raise KrpcError(f"a message of kind {message.get(b'y')!r}, expected q, r or e")


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _read_query(transaction: bytes, message: dict[bytes, Any]) -> Query:
    method, arguments = message.get(b"q"), message.get(b"a")
    if not isinstance(method, bytes) or not isinstance(arguments, dict):
        raise KrpcError("a query without method or arguments")
    return Query(transaction, method, arguments, message.get(b"ro") == 1)


def _read_reply(transaction: bytes, message: dict[bytes, Any]) -> Reply:
    values = message.get(b"r")
    if not isinstance(values, dict) or len(_bytes(values.get(b"id"))) != ID:
        raise KrpcError("a reply without a node id")
    return Reply(transaction, values, endpoint_from(_bytes(message.get(b"ip"))))


def _read_failure(transaction: bytes, message: dict[bytes, Any]) -> Failure:
    match message.get(b"e"):
        case [int(code), bytes(text), *_]:
            return Failure(
                transaction, code, text[:200].decode(errors="replace"), endpoint_from(_bytes(message.get(b"ip")))
            )
    raise KrpcError("an error without code and text")
