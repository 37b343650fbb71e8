"""A member of a kademlia swarm: the library's server, hardened against what strangers send and against silent members.

Values lie where their signature says; nothing is republished or handed over, since who wrote a value puts it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import umsgpack  # type: ignore[import-untyped] # it has no types
from kademlia.crawling import NodeSpiderCrawl  # type: ignore[import-untyped] # it has no types
from kademlia.network import Server  # type: ignore[import-untyped] # the same
from kademlia.node import Node  # type: ignore[import-untyped] # the same
from kademlia.protocol import KademliaProtocol  # type: ignore[import-untyped] # the same

from wgdisco.backends._kademlia_values import TRUTH, Shelf, Value, admitted
from wgdisco.endpoint import Endpoint

__all__ = ["Member"]

NEIGHBOURS, AT_ONCE = 20, 10  # members that hold a value (k), and that a lookup asks at one time (alpha)
PATIENCE, TRIES = 0.35, 2  # seconds for an answer, and how often a question is sent
LONGEST = 3.0  # seconds a crawl may take, whoever lengthens it
MOST_SILENT = 1024  # addresses remembered as silent
BIGGEST = 8192  # bytes of a datagram that is read
STALE, SHUNNED = 60.0, 20.0  # seconds: unheard until asked whether it is there; not asked again after silence
QUESTIONS = ("ping", "store", "find_node", "find_value", "leave")

log = logging.getLogger(__name__)


class Protocol(KademliaProtocol):  # type: ignore[misc] # the library has no types
    """The messages of the library, each checked before it is believed; a question is asked twice within 0.7 s."""

    def __init__(self, source_node: Any, storage: Shelf, ksize: int) -> None:
        super().__init__(source_node, storage, ksize)
        self._asked: dict[bytes, tuple[tuple[str, int], asyncio.Future[Any]]] = {}
        self._pings: set[asyncio.Task[Any]] = set()
        self._silent: dict[tuple[str, int], float] = {}
        self._version = 4

    def connection_made(self, transport: Any) -> None:
        """Remember which family of addresses this socket reaches."""
        super().connection_made(transport)
        self._version = ip_address(transport.get_extra_info("sockname")[0].partition("%")[0]).version

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """End what the routing table started."""
        for task in self._pings:
            task.cancel()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer a question or take an answer; whatever is neither is dropped."""
        if not 22 <= len(data) <= BIGGEST:
            return
        try:
            message = umsgpack.unpackb(data[21:])
            if data[:1] == b"\x00":
                reply = self._answered(addr, *message)
                self.transport.sendto(b"\x01" + data[1:21] + umsgpack.packb(reply), addr)
            elif data[:1] == b"\x01":
                self._take(data[1:21], message, addr)
        except Exception as error:  # noqa: BLE001 - strangers may send anything
            log.debug("dropped a datagram of %d bytes: %s", len(data), type(error).__name__)

    def _answered(self, sender: Any, question: str, arguments: Any) -> Any:
        identity, *rest = arguments
        if question not in QUESTIONS or not all(_is_id(each) for each in (identity, *rest[:1])):
            raise ValueError(question)
        return getattr(self, f"rpc_{question}")(sender, identity, *rest)

    def _take(self, number: bytes, message: Any, sender: Any) -> None:
        asked, future = self._asked.get(number, (None, None))
        if future is not None and asked == tuple(sender[:2]) and not future.done():
            future.set_result(message)

    def rpc_store(self, sender: Any, nodeid: bytes, key: bytes, value: object) -> Any:
        """Hold a value that verifies and is not older; the answer is true, or the reason why not."""
        self.welcome_if_new(Node(nodeid, sender[0], sender[1]))
        told = self.storage.store(key, value)
        return True if told == TRUTH else told

    def rpc_find_node(self, sender: Any, nodeid: bytes, key: bytes) -> list[tuple[Any, ...]]:
        """The nodes near a key; those unheard of for long are asked whether they are there, so that the dead go."""
        self.welcome_if_new(Node(nodeid, sender[0], sender[1]))
        asker, now = Node(nodeid, sender[0], sender[1]), asyncio.get_running_loop().time()
        found = self.router.find_neighbors(Node(key), exclude=asker)
        for node in found:
            if now - getattr(node, "heard", now) > STALE:
                node.heard = now
                self.call_ping(node)
        return [tuple(node) for node in found]

    def rpc_leave(self, sender: Any, nodeid: bytes) -> bool:
        """Forget a node that says goodbye."""
        node = Node(nodeid, sender[0], sender[1])
        for bucket in self.router.buckets:
            known = bucket[nodeid]
            if known is not None and known.same_home_as(node):
                bucket.remove_node(known)
        return True

    def leave(self) -> None:
        """Say goodbye to all members known, or others would wait for this one in vain."""
        data = umsgpack.packb(["leave", [self.source_node.id]])
        for node in self.router.find_neighbors(self.source_node):
            self.transport.sendto(b"\x00" + os.urandom(20) + data, (node.ip, node.port))

    def welcome_if_new(self, node: Any) -> None:
        """Take a node into the routing table, in place of another one at its address (it was started anew)."""
        self._silent.pop((node.ip, node.port), None)
        node.heard = asyncio.get_running_loop().time()
        if node.id == self.source_node.id:
            return
        if not self.router.is_new_node(node):
            self.router.buckets[self.router.get_bucket_for(node)][node.id].heard = node.heard
            return
        for bucket in self.router.buckets:
            for other in bucket.get_nodes():
                if other.same_home_as(node):
                    bucket.remove_node(other)
        self.router.add_contact(node)

    async def ask(self, address: tuple[str, int], question: str, *arguments: object) -> tuple[bool, Any]:
        """Whether a node answered within 0.7 s, and what."""
        number = os.urandom(20)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = (address, future)
        data = b"\x00" + number + umsgpack.packb([question, [self.source_node.id, *arguments]])
        try:
            for _ in range(TRIES):
                self.transport.sendto(data, address)
                if (await asyncio.wait({future}, timeout=PATIENCE))[0]:
                    return True, future.result()
            return False, None
        finally:
            del self._asked[number]

    async def _call(self, node: Any, question: str, *arguments: object) -> tuple[bool, Any]:
        answered, told = await self.ask((node.ip, node.port), question, *arguments)
        if answered:
            self.welcome_if_new(node)
        else:
            self.router.remove_contact(node)
            if len(self._silent) >= MOST_SILENT:
                self._silent.clear()
            self._silent[node.ip, node.port] = asyncio.get_running_loop().time() + SHUNNED
        return answered, told

    async def call_find_node(self, node_to_ask: Any, node_to_find: Any) -> tuple[bool, Any]:
        """The nodes that one knows near an id, those of them that can be reached by this socket at all."""
        answered, told = await self._call(node_to_ask, "find_node", node_to_find.id)
        return answered, [each for each in _few(told) if self._reachable(each)]

    async def call_find_value(self, node_to_ask: Any, node_to_find: Any) -> tuple[bool, Any]:
        """The value that one holds, as `{"value": bytes}`, or anything else."""
        return await self._call(node_to_ask, "find_value", node_to_find.id)

    async def call_store(self, node_to_ask: Any, key: bytes, value: bytes) -> tuple[bool, Any]:
        """Whether one answered, and true or why it does not hold the value."""
        return await self._call(node_to_ask, "store", key, value)

    def call_ping(self, node_to_ask: Any) -> asyncio.Task[Any]:
        """Ask whether a node is there; a task that ends with the socket, for the routing table."""
        task = asyncio.ensure_future(self._call(node_to_ask, "ping"))
        self._pings.add(task)
        task.add_done_callback(self._pings.discard)
        return task

    def _reachable(self, node: Any) -> bool:
        try:
            identity, host, port = node
            address = ip_address(host)
            hash(port)
        except (TypeError, ValueError):
            return False
        shunned = self._silent.get((host, port), 0.0) > asyncio.get_running_loop().time()
        possible = (
            not shunned and address.version == self._version and not address.is_multicast and not address.is_unspecified
        )
        return possible and _is_id(identity) and isinstance(host, str) and type(port) is int and 0 < port < 65536


class Member(Server):  # type: ignore[misc] # the library has no types
    """One member: it holds values for others, and looks up and spreads its own."""

    protocol_class = Protocol

    def __init__(self) -> None:
        super().__init__(NEIGHBOURS, AT_ONCE, os.urandom(20), Shelf())

    def refresh_table(self, interval: int = 3600) -> None:
        """Nothing: every lookup refreshes the table, and values are put again by who wrote them."""

    def stop(self) -> None:
        """Say goodbye and close the socket."""
        if self.transport is not None and not self.transport.is_closing():
            self.protocol.leave()
        super().stop()

    @property
    def neighbours(self) -> list[Endpoint]:
        """The members known that are nearest to this one, up to 20."""
        known = self.protocol.router.find_neighbors(self.node)
        return [Endpoint(ip_address(node.ip), node.port) for node in known]

    async def enter(self, endpoints: Iterable[Endpoint]) -> tuple[int, bool]:
        """How many other members answered at these endpoints, and whether one of them is this one."""
        places = [(str(each.address), each.port) for each in endpoints]
        told = await asyncio.gather(*(self.protocol.ask(place, "ping") for place in places))
        found = [Node(identity, *place) for place, (_, identity) in zip(places, told, strict=True) if _is_id(identity)]
        others = [node for node in found if node.id != self.node.id]
        for node in others:
            self.protocol.welcome_if_new(node)
        if others:
            await self._near(self.node.id)
        return len(others), len(others) < len(found)

    async def find(self, key: bytes) -> tuple[int, list[Value]]:
        """How many members answered, and every valid version of a value that they and this one hold."""
        nodes = await self._near(key)
        told = await asyncio.gather(*(self.protocol.call_find_value(node, Node(key)) for node in nodes))
        held = [self.storage.get(key), *(each.get("value") for _, each in told if isinstance(each, dict))]
        values = {data: admitted(key, data) for data in held if isinstance(data, bytes)}
        return sum(answered for answered, _ in told), [value for value in values.values() if value is not None]

    async def spread(self, value: Value) -> Counter[str]:
        """What the members nearest to the value's place say: `taken`, or why not; silent ones are not counted."""
        nodes = await self._near(value.key)
        told = await asyncio.gather(*(self.protocol.call_store(node, value.key, value.encode()) for node in nodes))
        return Counter(TRUTH if word is True else str(word)[:20] for answered, word in told if answered)

    async def _near(self, key: bytes) -> list[Any]:
        """The members nearest to a key, each of which answered unless the time was up."""
        target = Node(key)
        known = self.protocol.router.find_neighbors(target)
        crawl = NodeSpiderCrawl(self.protocol, target, known, self.ksize, self.alpha)
        try:
            async with asyncio.timeout(LONGEST):
                await crawl.find()
        except TimeoutError:
            log.debug("a lookup was cut off after %g s", LONGEST)
        return [node for node in crawl.nearest if node.id != self.node.id]


def _is_id(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == 20


def _few(told: object) -> list[Any]:
    return told[:NEIGHBOURS] if isinstance(told, list) else []
