"""What we answer to the queries of others (BEP 5, BEP 32, BEP 44). Sans I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wgdisco.bep44.bencode import Raw
from wgdisco.bep44.contact import ID, host, pack
from wgdisco.bep44.item import Item
from wgdisco.bep44.krpc import Code, Failure, Query, Refusal, Reply
from wgdisco.bep44.storage import Storage
from wgdisco.bep44.table import K, Table
from wgdisco.bep44.tokens import Tokens
from wgdisco.endpoint import Endpoint

__all__ = ["Responder"]

LARGEST = 1232  # bytes of an answer with nodes in it: what crosses every IPv6 path unfragmented
FAMILIES = {b"n4": (4, b"nodes"), b"n6": (6, b"nodes6")}


class Responder:
    """Answers queries from the routing tables (by IP version) and, where there is one, from the storage.

    Without a storage it gives no tokens and takes no puts, but still points to other nodes: whoever learnt of us
    loses no time on us (BEP 43 nodes are asked all the same).
    """

    def __init__(self, tables: Mapping[int, Table], storage: Storage | None) -> None:
        self.tables = tables
        self.storage = storage
        self._tokens = Tokens()
        self._methods = {b"ping": self._ping, b"find_node": self._find_node, b"get_peers": self._get_peers}
        if storage is not None:
            self._methods |= {b"announce_peer": self._announce_peer, b"put": self._put}
        self._methods[b"get"] = self._get

    def answer(self, query: Query, source: Endpoint, now: float) -> bytes:
        """The datagram that answers a query: a reply, or an error with its code.

        It has at most 1232 bytes; only a value of nearly 1000 makes it up to 1280, without any nodes.
        """
        try:
            query.field(b"id", ID)
            method = self._methods.get(query.method, _unknown)
            values = {b"id": self.tables[source.address.version].own, **method(query, source, now)}
        except Refusal as refusal:
            return Failure(query.transaction, refusal.code, str(refusal), source).encode()
        return self._fit(query, values, source)

    def _fit(self, query: Query, values: dict[bytes, Any], source: Endpoint) -> bytes:
        """Leave out the farthest nodes until the answer fits."""
        while True:
            data = Reply(query.transaction, values, source).encode()
            if len(data) <= LARGEST or not (values.get(b"nodes") or values.get(b"nodes6")):
                return data
            for name, size in ((b"nodes", 26), (b"nodes6", 38)):
                if name in values:
                    values[name] = values[name][: -2 * size]

    def _ping(self, query: Query, source: Endpoint, now: float) -> dict[bytes, Any]:  # noqa: ARG002 - one shape for all
        return {}

    def _find_node(self, query: Query, source: Endpoint, now: float) -> dict[bytes, Any]:  # noqa: ARG002 - as above
        return self._nodes(query, query.field(b"target", ID), source)

    def _get_peers(self, query: Query, source: Endpoint, now: float) -> dict[bytes, Any]:
        target = query.field(b"info_hash", ID)
        return self._nodes(query, target, source) | self._token(target, source, now)

    def _announce_peer(self, query: Query, source: Endpoint, now: float) -> dict[bytes, Any]:
        """Take note of nothing: we keep no torrents, but a client that got a token may expect an answer."""
        self._check_token(query, query.field(b"info_hash", ID), source, now)
        return {}

    def _get(self, query: Query, source: Endpoint, now: float) -> dict[bytes, Any]:
        target = query.field(b"target", ID)
        values = self._nodes(query, target, source) | self._token(target, source, now)
        item = self.storage.get(target, now) if self.storage is not None else None
        if item is None:
            return values
        values[b"seq"] = item.seq
        known = query.arguments.get(b"seq")
        if not isinstance(known, int) or item.seq > known:
            values |= {b"k": item.public, b"v": item.encoded, b"sig": item.signature}
        return values

    def _put(self, query: Query, source: Endpoint, now: float) -> dict[bytes, Any]:
        assert self.storage is not None  # only then the method is known
        item = _item_of(query)
        self._check_token(query, item.target, source, now)
        cas = query.arguments.get(b"cas")
        if cas is not None and not isinstance(cas, int):
            raise Refusal(Code.PROTOCOL, "cas is no number")
        self.storage.put(item, host(source.address), now, cas)
        return {}

    def _nodes(self, query: Query, target: bytes, source: Endpoint) -> dict[bytes, Any]:
        """The nodes closest to a target, of the families that are wanted (BEP 32)."""
        want = query.arguments.get(b"want")
        wanted = [name for name in FAMILIES if name in want] if isinstance(want, list) else []
        found: dict[bytes, Any] = {}
        for name in wanted or [b"n%d" % source.address.version]:
            version, key = FAMILIES[name]
            if version in self.tables:
                closest = self.tables[version].closest(target, K + 1)
                found[key] = pack([contact for contact in closest if contact.endpoint != source][:K])
        return found

    def _token(self, target: bytes, source: Endpoint, now: float) -> dict[bytes, Any]:
        return {} if self.storage is None else {b"token": self._tokens.give(source.address, target, now)}

    def _check_token(self, query: Query, target: bytes, source: Endpoint, now: float) -> None:
        if not self._tokens.accept(query.arguments.get(b"token"), source.address, target, now):
            raise Refusal(Code.PROTOCOL, "invalid token")


def _unknown(query: Query, source: Endpoint, now: float) -> dict[bytes, Any]:  # noqa: ARG001 - one shape for all
    raise Refusal(Code.UNKNOWN_METHOD, "method unknown")


def _item_of(query: Query) -> Item:
    """The mutable item in a put; raises Refusal."""
    seq, encoded, salt = (query.arguments.get(name) for name in (b"seq", b"v", b"salt"))
    if not isinstance(encoded, Raw):
        raise Refusal(Code.PROTOCOL, "v is missing")
    if not isinstance(seq, int) or not 0 <= seq < 2**63:
        raise Refusal(Code.PROTOCOL, "seq is missing or no number from 0 to 2^63 - 1; only mutable items are kept")
    if salt is not None and not isinstance(salt, bytes):
        raise Refusal(Code.PROTOCOL, "salt is no string")
    return Item(query.field(b"k", 32), seq, encoded, query.field(b"sig", 64), salt or b"")
