"""A node of the Mainline DHT: finds and puts mutable items, and stores them for others if asked to (BEP 5, BEP 44)."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Self

from wgdisco.bep44.channel import Answer, Channel, Patience, first_reply
from wgdisco.bep44.contact import Contact, reachable
from wgdisco.bep44.frontier import Frontier
from wgdisco.bep44.identity import matches, node_id
from wgdisco.bep44.item import Item, target_of
from wgdisco.bep44.krpc import Query, Reply
from wgdisco.bep44.limits import Limiter, Limits
from wgdisco.bep44.lookup import Found, Hear, Lookup
from wgdisco.bep44.observed import Observed
from wgdisco.bep44.reader import Reader
from wgdisco.bep44.responder import Responder
from wgdisco.bep44.storage import Storage
from wgdisco.bep44.table import Table
from wgdisco.bep44.writer import Stored, Writer
from wgdisco.endpoint import Endpoint

__all__ = ["ANYWHERE", "NoAnswer", "Node", "Stored"]

ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - a node of a public network
START = 32  # nodes a lookup starts from
PROBES = 16  # unknown nodes that are asked at once whether they answer


class NoAnswer(ConnectionError):  # noqa: N818 - named after what the caller learns, as in errors.py
    """No node answered a lookup: `asked` were asked."""

    def __init__(self, asked: int) -> None:
        super().__init__(f"asked {asked} nodes of the DHT, none answered" if asked else "no node of the DHT is known")
        self.asked = asked


class Node:
    """One node, with up to one socket for IPv4 and one for IPv6; call `start`, then `close` or `async with`.

    `storing` makes it answer for others' items too; otherwise it is read-only (BEP 43). `identity` is its id (20
    bytes), for a node that comes back; `limits` is what others may make it do.
    """

    def __init__(self, *, storing: bool = False, identity: bytes | None = None, limits: Limits | None = None) -> None:
        self.storage = Storage() if storing else None
        self.tables: dict[int, Table] = {}
        self.patience = Patience()
        self.identity = identity or node_id()
        self._limiter = Limiter(limits or Limits())
        self._responder = Responder(self.tables, self.storage)
        self._channels: dict[int, Channel] = {}
        self._observed: dict[int, Observed] = {}
        self._probing: set[Endpoint] = set()

    async def start(self, bind: Sequence[str] = ANYWHERE, port: int = 0) -> list[Endpoint]:
        """Open a socket on each address (one IPv4, one IPv6; port 0: any) and say where they are.

        Raises OSError when none can be opened; a host without IPv6 simply has one socket.
        """
        bound: list[Endpoint] = []
        refused: OSError | None = None
        for address in bind:
            channel = Channel(self._asked, self._heard, self._limiter, self.patience)
            try:
                bound.append(channel.bind(address, port))
            except OSError as error:
                refused = error
                continue
            version = bound[-1].address.version
            self._channels[version], self.tables[version] = channel, Table(self.identity)
            self._observed[version] = Observed()
        if refused is not None and not bound:
            raise refused
        return bound

    async def close(self) -> None:
        """Close the sockets; whoever waits for an answer gets none."""
        for channel in self._channels.values():
            channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def bootstrap(self, endpoints: Iterable[Endpoint], seconds: float = 2.4) -> int:
        """Ask nodes whose ids are unknown, three times each within `seconds`; how many answered.

        A storing node then looks itself up, so that its neighbours come to know it.
        """
        wanted = {endpoint for endpoint in endpoints if endpoint.address.version in self._channels}
        answered = sum(await asyncio.gather(*(self.greet(endpoint, seconds) for endpoint in wanted)))
        if answered and self.storage is not None:
            await self.join()
        return answered

    async def greet(self, endpoint: Endpoint, seconds: float = 2.4) -> bool:
        """Ask one node for its neighbours, again after each third of the time; whether it answered."""
        if endpoint.address.version not in self._channels:
            return False
        arguments: dict[bytes, Any] = {b"target": os.urandom(20)}
        if len(self._channels) > 1:
            arguments[b"want"] = [b"n4", b"n6"]
        now = asyncio.get_running_loop().time()
        waiting: set[asyncio.Future[Answer]] = set()
        for turn in (1, 2, 3):
            waiting.add(self._query(endpoint, b"find_node", arguments))
            reply = await first_reply(waiting, now + turn * seconds / 3)
            if reply is not None:
                self._cross(reply, endpoint)
                return True
        return False

    async def join(self) -> None:
        """Take an id that fits our public address (BEP 42), look ourselves up, then fill the farther buckets."""
        for version in self.tables:
            self._adopt(version)
            await self.find(version, self.tables[version].own)
            await asyncio.gather(*(self.find(version, target) for target in self.tables[version].far()))

    async def get(self, public: bytes, salt: bytes = b"") -> AsyncGenerator[Item, None]:
        """Every different valid item under a key (32 bytes), as it arrives; ends when the lookup has.

        Older ones are among them: whoever asks chooses. Raises NoAnswer when no node answered.
        """
        items: asyncio.Queue[Item | None] = asyncio.Queue()
        reader = Reader(public, salt, items.put_nowait)

        async def search() -> None:
            try:
                await self._search(target_of(public, salt), reader.hear)
            finally:
                items.put_nowait(None)

        task = asyncio.ensure_future(search())
        try:
            while (item := await items.get()) is not None:
                yield item
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def put(self, item: Item, cas: int | None = None) -> Stored:
        """Put an item to the eight closest nodes of each family; raises NoAnswer when no node answered the lookup.

        Nothing is put when a valid item with a greater number turns up on the way. `cas`: the number it replaces.
        """
        writer = Writer(item, cas, lambda contact, arguments: self._query(contact.endpoint, b"put", arguments))
        found = await self._search(item.target, writer.hear)
        if writer.newer is not None:
            return Stored(0, Counter(), writer.newer)
        done = await asyncio.gather(*(writer.store(each) for each in found))
        return Stored(sum(each.count for each in done), sum((each.refusals for each in done), Counter()))

    async def find(self, version: int, target: bytes) -> list[Found]:
        """The nodes closest to an id, by find_node in one address family; empty when none answered."""
        return await self._lookup(version, target, b"find_node", _ignore).run()

    def misplaced(self) -> bool:
        """Whether an id of ours does not fit the public address that others see (BEP 42), so that `join` is due."""
        seen = [(table, self._observed[version].address()) for version, table in self.tables.items()]
        return any(address is not None and not matches(table.own, address) for table, address in seen)

    def ping(self, contact: Contact) -> asyncio.Future[Answer]:
        """Ask a node whether it is there; the routing table takes note."""
        return self._query(contact.endpoint, b"ping", {})

    def observed(self) -> dict[Endpoint, int]:
        """Where other nodes see our sockets: endpoint -> hosts that say so (BEP 42), most first in each family."""
        return {endpoint: n for seen in self._observed.values() for endpoint, n in seen.endpoints().items()}

    def contacts(self) -> list[Contact]:
        """Every node in the routing tables, the reliable ones first: what to remember for the next start."""
        return [contact for table in self.tables.values() for contact in table.contacts()]

    async def _search(self, target: bytes, hear: Hear) -> list[list[Found]]:
        """`get` lookups in all families at once; the nodes that answered, by family; raises NoAnswer."""
        lookups = [self._lookup(version, target, b"get", hear) for version in self.tables]
        found = await asyncio.gather(*(lookup.run() for lookup in lookups))
        if not any(found):
            raise NoAnswer(sum(lookup.asked for lookup in lookups))
        return found

    def _lookup(self, version: int, target: bytes, method: bytes, hear: Hear) -> Lookup:
        table = self.tables[version]
        frontier = Frontier(target, table.own)
        frontier.add(table.closest(target, START) or table.contacts()[:START])

        def ask(contact: Contact) -> asyncio.Future[Answer]:
            return self._query(contact.endpoint, method, {b"target": target})

        return Lookup(frontier, ask, hear, self.patience)

    def _query(self, endpoint: Endpoint, method: bytes, arguments: Mapping[bytes, Any]) -> asyncio.Future[Answer]:
        version = endpoint.address.version
        identified = {b"id": self.tables[version].own, **arguments}
        return self._channels[version].query(endpoint, method, identified, read_only=self.storage is None)

    def _cross(self, reply: Reply, endpoint: Endpoint) -> None:
        """Ask the nodes of the other address family that a node named: the two networks know little of each other."""
        for contact in reply.contacts:
            if contact.endpoint.address.version != endpoint.address.version and reachable(contact.endpoint, endpoint):
                self._probe(contact)

    def _probe(self, contact: Contact) -> None:
        """Ask a node that we only heard of whether it is there, if the routing table has room for it."""
        table = self.tables.get(contact.endpoint.address.version)
        if table is None or contact.endpoint in self._probing or len(self._probing) >= PROBES:
            return
        if table.wants(contact):
            self._probing.add(contact.endpoint)
            self.ping(contact).add_done_callback(lambda _: self._probing.discard(contact.endpoint))

    def _asked(self, query: Query, source: Endpoint) -> bytes:
        """Answer a query; who asks without being read-only may be worth knowing."""
        sender = query.arguments.get(b"id")
        if self.storage is not None and not query.read_only and isinstance(sender, bytes) and len(sender) == 20:
            self._probe(Contact(sender, source))
        return self._responder.answer(query, source, asyncio.get_running_loop().time())

    def _heard(self, endpoint: Endpoint, answer: Answer) -> None:
        version = endpoint.address.version
        if answer is None:
            self.tables[version].failed(endpoint)
            return
        if answer.observed is not None:
            self._observed[version].hear(endpoint, answer.observed)
        if isinstance(answer, Reply):
            self.tables[version].answered(Contact(answer.id, endpoint), asyncio.get_running_loop().time())

    def _adopt(self, version: int) -> None:
        """Change our id when it does not fit the address at which others see us (BEP 42)."""
        table, address = self.tables[version], self._observed[version].address()
        if address is None or matches(table.own, address):
            return
        self.identity = node_id(address)
        self.tables[version] = Table(self.identity)
        for contact in table.contacts():
            self.tables[version].answered(contact, asyncio.get_running_loop().time())


def _ignore(contact: Contact, reply: Reply) -> None:
    """What a lookup for nodes does with a reply: nothing more."""
