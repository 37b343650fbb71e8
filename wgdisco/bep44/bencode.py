"""Bencode (BEP 3): values to bytes and back, strictly, keeping the very bytes of a value somebody signed. Sans I/O."""

from __future__ import annotations

from typing import Any

__all__ = ["BencodeError", "Raw", "decode", "encode"]

DEEPEST = 16  # lists and dictionaries inside each other
DIGITS = 20  # of an integer, sign included: 64 bits


class BencodeError(ValueError):
    """Bytes that are no bencoded value, or a value that has no bencoded form."""


class Raw(bytes):
    """Bytes that are bencoded already: `encode` passes them on as they are."""

    __slots__ = ()


def encode(value: Any) -> bytes:
    """The bencoded form of int, bytes, list or dict with bytes for keys; raises BencodeError for anything else."""
    parts: list[bytes] = []
    _write(value, parts.append)
    return b"".join(parts)


def _write(value: Any, emit: Any) -> None:
    if isinstance(value, Raw):
        emit(bytes(value))
    elif isinstance(value, bytes):
        emit(b"%d:%b" % (len(value), value))
    elif isinstance(value, int) and not isinstance(value, bool):
        emit(b"i%de" % value)
    elif isinstance(value, list):
        emit(b"l")
        for item in value:
            _write(item, emit)
        emit(b"e")
    elif isinstance(value, dict) and all(isinstance(key, bytes) for key in value):
        emit(b"d")
        for key in sorted(value):
            _write(key, emit)
            _write(value[key], emit)
        emit(b"e")
    else:
        raise BencodeError(f"{type(value).__name__} has no bencoded form; expected int, bytes, list or dict of bytes")


def decode(data: bytes, raw_key: bytes | None = None) -> Any:
    """Read exactly one value from `data`: int, bytes, list or dict; raises BencodeError.

    The value of a dictionary's `raw_key` is checked but returned as Raw, the bytes as they stand in `data`: BEP 44
    signs those and not what an encoder would make of them. Integers and lengths have one spelling; keys appear once,
    in any order, since some nodes of the network do not sort.
    """
    reader = _Reader(data, raw_key)
    value, end = reader.value(0, 0)
    if end != len(data):
        raise BencodeError(f"{len(data) - end} bytes after the end of the value")
    return value


class _Reader:
    """Reads values from one buffer: each method takes an offset and returns a value and the offset behind it."""

    __slots__ = ("data", "raw_key")

    def __init__(self, data: bytes, raw_key: bytes | None) -> None:
        self.data = data
        self.raw_key = raw_key

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        kind = self.data[at : at + 1]
        if kind.isdigit():
            return self.string(at)
        if kind == b"i":
            return self.integer(at)
        if depth == DEEPEST:
            raise BencodeError(f"more than {DEEPEST} levels at byte {at}")
        if kind == b"d":
            return self.dictionary(at + 1, depth + 1)
        if kind == b"l":
            return self.sequence(at + 1, depth + 1)
        raise BencodeError(f"byte {at} is {kind!r}, expected the start of a value")

    def number(self, at: int, until: bytes) -> tuple[int, int]:
        end = self.data.find(until, at, at + DIGITS + 1)
        digits = self.data[at:end] if end >= 0 else b""
        unsigned = digits.removeprefix(b"-")
        if not unsigned.isdigit() or (unsigned[:1] == b"0" and digits != b"0"):
            raise BencodeError(f"no number in its one spelling at byte {at}")
        return int(digits), end + 1

    def integer(self, at: int) -> tuple[int, int]:
        return self.number(at + 1, b"e")

    def string(self, at: int) -> tuple[bytes, int]:
        length, start = self.number(at, b":")
        end = start + length
        if end > len(self.data):
            raise BencodeError(f"a string of {length} bytes at byte {at}, {len(self.data) - start} are left")
        return self.data[start:end], end

    def sequence(self, at: int, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        while self.data[at : at + 1] != b"e":
            item, at = self.value(at, depth)
            items.append(item)
        return items, at + 1

    def dictionary(self, at: int, depth: int) -> tuple[dict[bytes, Any], int]:
        items: dict[bytes, Any] = {}
        while self.data[at : at + 1] != b"e":
            key, start = self.string(at)
            if key in items:
                raise BencodeError(f"the key {key!r} appears twice")
            value, at = self.value(start, depth)
            items[key] = Raw(self.data[start:at]) if key == self.raw_key else value
        return items, at + 1
