"""How records, times and tables look: wg(8)'s shape for people, plain objects for JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from wgdisco.audience import Audience, Scope
from wgdisco.record import Kind, Record

__all__ = [
    "ago",
    "as_json",
    "echo",
    "kind_name",
    "nat",
    "plain_record",
    "print_json",
    "print_record",
    "printable",
    "readers",
    "size",
    "span",
]

READERS = {
    Scope.PEERS: "this peer alone",
    Scope.NETWORK: "the members of the network",
    Scope.KEY: "whoever knows the public key",
}
UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def span(seconds: float) -> str:
    """A time span as wg(8) writes it: `1 hour, 3 minutes`, its two largest units."""
    parts, rest = [], max(0, round(seconds))
    for size, name in UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
    return ", ".join(parts[:2]) or "0 seconds"


def ago(seconds: float) -> str:
    """How long ago, or how far ahead of our clock."""
    return f"{span(seconds)} ago" if seconds >= 0 else f"{span(-seconds)} ahead of our clock"


def size(count: int) -> str:
    """Bytes as wg(8) writes them: `92 B`, `1.21 KiB`."""
    if count < 1024:
        return f"{count} B"
    power = min(4, (count.bit_length() - 1) // 10)
    return f"{count / 1024**power:.2f} {'KMGT'[power - 1]}iB"


def nat(mapping: str, filtering: str, translated: bool | None) -> str:
    """What a NAT allows, in one sentence; mapping and filtering in RFC 5780's names, `translated` None when unknown."""
    if translated is False:
        open_to_all = filtering in ("unknown", "endpoint-independent")
        return "none" if open_to_all else f"none, but a firewall: {filtering} filtering"
    if mapping == "unknown":
        return "unknown (two STUN servers have to answer)"
    facts = f"{mapping} mapping, {filtering} filtering"
    if mapping == "endpoint-independent":
        return f"{facts}: others can punch through"
    return f"{facts} (symmetric): only peers that are public or filter less than by address and port can be reached"


def kind_name(kind: Kind) -> str:
    """`host`, `server-reflexive`, `mapped`, `observed`."""
    return kind.name.lower().replace("_", "-")


def plain_record(record: Record, scope: Scope) -> dict[str, Any]:
    """A record as an object of plain values."""
    return {
        "version": 1,
        "subject": str(record.subject),
        "audience": scope.name.lower(),
        "network": record.network.hex(),
        "issued": record.issued,
        "lifetime": record.lifetime,
        "candidates": [
            {"kind": kind_name(kind), "address": str(endpoint.address), "port": endpoint.port}
            for kind, endpoint in record.candidates
        ],
        "must": list(record.must),
        "hints": record.hints,
    }


def print_record(record: Record, scope: Scope, now: int, found: str = "") -> None:
    """A record in wg(8)'s shape; `now` in milliseconds since 1970."""
    print(f"peer: {record.subject}")
    for kind, endpoint in record.candidates:
        print(f"  endpoint: {endpoint} ({kind_name(kind)})")
    if not record.candidates:
        print("  endpoint: (none: it said that it is leaving)")
    print(f"  issued: {ago((now - record.issued) / 1000)}")
    left = (record.end - now) / 1000
    print(f"  expires: in {span(left)}" if left >= 0 else f"  expired: {ago(-left)}")
    print(f"  readable by: {READERS[scope]}")
    mapping = record.hints.get("nat")
    if isinstance(mapping, list | tuple):
        print(f"  nat: {', '.join(printable(part) for part in mapping)}")
    if found:
        print(f"  found by: {found}")


def readers(audiences: Sequence[Audience]) -> str:
    """Who can read a record, in words; the peers by their short keys are not named, only counted."""
    scope = audiences[0].scope
    if scope is Scope.PEERS:
        return f"each of {len(audiences)} peers, with a record of its own" if len(audiences) > 1 else READERS[scope]
    return READERS[scope]


def printable(value: object) -> str:
    """Text from outside without control characters or anything else that moves a terminal."""
    return "".join(char if char.isprintable() else "?" for char in str(value))


def as_json(value: Any) -> str:
    """JSON on one line; bytes become base64."""
    return msgspec.json.encode(value).decode()


def print_json(value: Any) -> None:
    """JSON for scripts, indented for whoever looks."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def echo(step: str) -> None:
    """`[#]` and a step that changes something, on stderr, as wg-quick(8) does."""
    print(f"[#] {step}", file=sys.stderr)
