"""Networks of real nodes on loopback: what is put is found, whatever dead, lying and flooding nodes do."""

from __future__ import annotations

import asyncio
import os
import random
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.backends.dhtnodes import GENEROUS, Swarm, item, node, signer, swarm
from tests.support import free_ports
from wgdisco.bep44 import Item, NoAnswer, Node, serve
from wgdisco.bep44.bencode import Raw, encode
from wgdisco.bep44.channel import Channel, Patience
from wgdisco.bep44.contact import distance, pack
from wgdisco.bep44.entry import enter
from wgdisco.bep44.krpc import Code, Query, Reply, read
from wgdisco.bep44.limits import Limiter, Limits
from wgdisco.bep44.memory import Memory
from wgdisco.bep44.serve import tend
from wgdisco.endpoint import Endpoint

BOTH = ("127.0.0.1", "::1")


async def found(reader: Node, made: Item) -> list[Item]:
    """Everything a node finds under an item's key."""
    return [each async for each in reader.get(made.public, made.salt)]


@asynccontextmanager
async def client(network: Swarm) -> AsyncIterator[Node]:
    """A read-only node that has entered the network."""
    async with node(address=str(network.endpoints[0].address)) as (made, _):
        assert await made.bootstrap(network.endpoints[:2])
        yield made


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_what_one_client_puts_another_one_finds(address):
    async with swarm(40, address) as network, client(network) as writer, client(network) as reader:
        made = item(5, os.urandom(681))
        assert (await writer.put(made)).count == 8
        assert await found(reader, made) == [made]


async def test_an_item_lies_on_the_eight_closest_nodes():
    async with swarm(60) as network, client(network) as writer:
        made = item()
        await writer.put(made)
        own = [each.tables[4].own for each in network.nodes.values()]
        holders = [n.tables[4].own for n in network.nodes.values() if n.storage.get(made.target, 0.0)]
        closest = sorted(own, key=lambda node: distance(node, made.target))[:8]
        assert len(holders) == 8
        assert len(set(holders) & set(closest)) >= 7


async def test_a_client_without_bootstrap_says_that_it_knows_nobody():
    async with node() as (alone, _):
        with pytest.raises(NoAnswer, match="no node of the DHT is known"):
            await found(alone, item())
        with pytest.raises(NoAnswer):
            await alone.put(item())


async def test_an_absent_item_is_nothing_and_no_error():
    async with swarm(10) as network, client(network) as reader:
        assert await found(reader, item()) == []


async def test_both_families_at_once():
    """A node with two sockets puts into both networks, and a reader with one finds it there."""
    async with swarm(10) as four, swarm(10, "::1") as six, Node() as both:
        await both.start(BOTH)
        assert await both.bootstrap([four.endpoints[0], six.endpoints[0]]) == 2
        made = item()
        assert (await both.put(made)).count == 16
        for network in (four, six):
            async with client(network) as reader:
                assert await found(reader, made) == [made]


async def test_one_family_leads_to_the_other():
    """A node of both families that is reached over IPv4 names nodes of IPv6 (BEP 32)."""
    async with swarm(4, "::1") as six, Node(storing=True, limits=GENEROUS) as bridge, Node() as both:
        over_ipv4, _ = await bridge.start(BOTH)
        await both.start(BOTH)
        assert await bridge.bootstrap(six.endpoints[:1]) == 1
        assert await both.bootstrap([over_ipv4]) == 1
        await eventually(both.tables[6].contacts)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_thirty_of_a_hundred_nodes_dead():
    async with swarm(100) as network, client(network) as writer:
        items = [item() for _ in range(5)]
        for made in items:
            assert (await writer.put(made)).count == 8
        await network.kill(random.sample(network.endpoints[2:], 30))
        async with client(network) as reader:
            for made in items:
                assert await found(reader, made) == [made]


async def test_the_oldest_nodes_dead():
    """The nodes that everybody knows are the ones that die."""
    async with swarm(60) as network, client(network) as writer:
        items = [item() for _ in range(5)]
        for made in items:
            await writer.put(made)
        await network.kill(network.endpoints[2:20])
        async with client(network) as reader:
            for made in items:
                assert await found(reader, made) == [made]


async def test_a_newer_item_replaces_an_older_one_everywhere():
    async with swarm(20) as network, client(network) as writer:
        by = signer()
        await writer.put(item(1, b"old", by))
        await writer.put(new := item(2, b"new", by))
        assert await found(writer, new) == [new]


async def test_an_older_item_is_not_put_where_a_newer_one_is():
    async with swarm(20) as network, client(network) as writer:
        by = signer()
        await writer.put(new := item(2, b"new", by))
        stored = await writer.put(item(1, b"old", by))
        assert (stored.count, stored.newer) == (0, new)


async def test_the_same_number_with_another_value_is_refused_everywhere():
    async with swarm(12) as network, client(network) as writer:
        by = signer()
        await writer.put(item(1, b"one", by))
        stored = await writer.put(item(1, b"two", by))
        assert (stored.count, set(stored.refusals)) == (0, {Code.OLD_SEQ})


async def test_nodes_that_do_not_take_a_put_are_replaced_by_the_next():
    async with swarm(20) as network, client(network) as writer:
        made = item()
        closest = sorted(network.nodes.values(), key=lambda each: distance(each.tables[4].own, made.target))
        for full in closest[:4]:
            full._responder._methods.pop(b"put")
        stored = await writer.put(made)
        assert stored.refusals == {Code.UNKNOWN_METHOD: 4}
        assert 4 < stored.count <= 8  # of the eight closest four took it, and whoever else answered the lookup


async def test_cas_is_sent_to_who_has_something():
    async with swarm(12) as network, client(network) as writer:
        by = signer()
        assert (await writer.put(item(1, b"one", by), cas=7)).count == 8
        assert set((await writer.put(item(2, b"two", by), cas=7)).refusals) == {Code.CAS_MISMATCH}
        assert (await writer.put(item(2, b"two", by), cas=1)).count == 8


async def test_all_different_values_are_given_out():
    """The core chooses; a node that missed an update does not hide the newer value, nor the other way round."""
    async with swarm(12) as network, client(network) as reader:
        by = signer()
        old, new = item(1, b"old", by), item(2, b"new", by)
        for index, each in enumerate(network.nodes.values()):
            each.storage.put(old if index % 2 else new, b"host", asyncio.get_running_loop().time())
        assert sorted([each.seq for each in await found(reader, old)]) == [1, 2]


async def test_a_client_that_leaves_a_get_leaves_nothing_behind():
    async with swarm(12) as network, client(network) as reader:
        made = item()
        await reader.put(made)
        items = reader.get(made.public)
        assert await anext(items) == made
        await items.aclose()
        assert len(asyncio.all_tasks()) == 1


async def test_every_answer_tells_where_we_are_seen():
    async with swarm(6) as network, node() as (seen, endpoint):
        await seen.bootstrap(network.endpoints)
        assert seen.observed() == {endpoint: 6}


async def test_a_node_that_only_asks_gets_into_nobodys_table():
    async with swarm(6) as network, client(network) as reader:
        await reader.put(item())
        port = reader._channels[4]._socket.getsockname()[1]
        await asyncio.sleep(0.05)
        known = {contact.endpoint.port for each in network.nodes.values() for contact in each.contacts()}
        assert port not in known


async def test_nodes_that_join_get_to_know_far_nodes_too():
    """Not its neighbours alone: whoever knows only those loses the network with them."""
    async with swarm(60) as network:
        known = [len(each.contacts()) for each in network.nodes.values()]
        assert sum(known) / len(known) > 28


# lies


def liar(answer: Callable[[Query, Endpoint], bytes]) -> Channel:
    """A node that answers whatever a test wants."""
    return Channel(answer, lambda *_: None, Limiter(GENEROUS), Patience())


@asynccontextmanager
async def beside(
    network: Swarm, answer: Callable[[bytes, Query, Endpoint], bytes], count: int = 12
) -> AsyncIterator[list[Endpoint]]:
    """Lying nodes that the network's nodes know: they answer pings honestly, and everything else as told."""
    channels, endpoints = [], []
    try:
        for _ in range(count):
            own = os.urandom(20)

            def reply(query: Query, source: Endpoint, own: bytes = own) -> bytes:
                if query.method == b"ping":
                    return Reply(query.transaction, {b"id": own}, source).encode()
                return answer(own, query, source)

            channel = liar(reply)
            channels.append(channel)
            endpoints.append(channel.bind("127.0.0.1", 0))
            for known in network.endpoints:
                channel.query(known, b"find_node", {b"id": own, b"target": own}, read_only=False)
            await asyncio.sleep(0.01)
        await eventually(
            lambda: any(set(endpoints) & {c.endpoint for c in n.contacts()} for n in network.nodes.values())
        )
        yield endpoints
    finally:
        for channel in channels:
            channel.close()


async def survives(answer: Callable[[bytes, Query, Endpoint], bytes], made: Item) -> None:
    """Among thirty honest nodes and twelve of these, an item is stored and found, and nothing else is."""
    async with swarm(30) as network, beside(network, answer) as liars, client(network) as user:
        stored = await user.put(made)
        assert stored.count >= 4
        assert await found(user, made) == [made]
        assert await user.bootstrap(liars) >= 0


def values(query: Query, own: bytes, **more: object) -> bytes:
    return Reply(
        query.transaction, {b"id": own, b"nodes": b"", b"token": b"t"} | {k.encode(): v for k, v in more.items()}
    ).encode()


async def test_garbage_for_values_is_ignored():
    made = item(5)

    def answer(own: bytes, query: Query, _: Endpoint) -> bytes:
        return values(query, own, k=made.public, seq=9, v=Raw(encode(os.urandom(100))), sig=os.urandom(64))

    await survives(answer, made)


async def test_items_of_other_keys_are_ignored():
    made, other = item(5), item(9)

    def answer(own: bytes, query: Query, _: Endpoint) -> bytes:
        return values(query, own, k=other.public, seq=9, v=other.encoded, sig=other.signature)

    await survives(answer, made)


async def test_values_of_wrong_types_are_ignored():
    made = item(5)

    def answer(own: bytes, query: Query, _: Endpoint) -> bytes:
        odd = random.choice([5, [], {}, b"", b"x" * 999])
        return values(query, own, k=made.public, seq=odd, v=odd, sig=odd, nodes=odd, nodes6=odd, token=odd)

    await survives(answer, made)


async def test_nodes_that_refuse_every_put_do_not_count():
    made = item(5)

    def answer(own: bytes, query: Query, _: Endpoint) -> bytes:
        return (
            values(query, own)
            if query.method != b"put"
            else encode({b"t": query.transaction, b"y": b"e", b"e": [203, b"no"]})
        )

    await survives(answer, made)


async def test_crowds_that_do_not_exist_are_seen_through():
    """Every lie names eight nodes right at the target, where nobody answers."""
    made = item(5)
    nowhere = [Endpoint.parse(f"127.0.0.1:{port}") for port in free_ports(8)]

    def answer(own: bytes, query: Query, _: Endpoint) -> bytes:
        target = query.arguments.get(b"target", bytes(20))
        return values(query, own, nodes=b"".join(target[:18] + os.urandom(2) + pack([(b"", each)]) for each in nowhere))

    await survives(answer, made)


async def test_an_answer_from_another_address_does_not_count():
    """Whoever knows the transaction still is not who was asked."""
    async with node() as (asking, _):
        true, false = liar(lambda *_: b""), liar(lambda *_: b"")
        heard: asyncio.Future[Query] = asyncio.get_running_loop().create_future()

        def overhear(query: Query, _: Endpoint) -> bytes:
            heard.set_result(query) if not heard.done() else None
            return b""

        true = liar(overhear)
        endpoint = true.bind("127.0.0.1", 0)
        false.bind("127.0.0.1", 0)
        greeting = asyncio.ensure_future(asking.bootstrap([endpoint], seconds=0.3))
        query = await heard
        source = Endpoint.parse(f"127.0.0.1:{asking._channels[4]._socket.getsockname()[1]}")
        for channel in (false, true):
            channel._send(Reply(b"else", {b"id": os.urandom(20)}).encode(), source)
        false._send(Reply(query.transaction, {b"id": os.urandom(20)}).encode(), source)
        assert await greeting == 0
        assert asking.contacts() == []
        true.close()
        false.close()


async def test_a_flood_costs_bounded_memory_and_leaves_others_served():
    """One host sends whatever it likes: rubbish, queries under new ids, puts with wrong tokens."""
    limits = Limits(rate=10_000.0, burst=20_000.0)
    flooded = Node(storing=True, limits=limits)
    (endpoint,) = await flooded.start(["127.0.0.1"])
    flooder = liar(lambda *_: b"")
    flooder.bind("127.0.0.2", 0)
    async with flooded, node() as (user, _):
        made = item()
        tracemalloc.start()
        try:
            for turn in range(400):
                flooder._send(os.urandom(900), endpoint)
                flooder._send(
                    Query(b"t", b"find_node", {b"id": os.urandom(20), b"target": os.urandom(20)}).encode(), endpoint
                )
                other = item()
                told = {
                    b"id": os.urandom(20),
                    b"k": other.public,
                    b"seq": 1,
                    b"v": other.encoded,
                    b"sig": other.signature,
                }
                flooder._send(Query(b"t", b"put", {**told, b"token": b"12345678"}).encode(), endpoint)
                if turn % 20 == 0:
                    await asyncio.sleep(0)
            assert await user.bootstrap([endpoint]) == 1
            assert (await user.put(made)).count == 1
            assert tracemalloc.get_traced_memory()[0] < 2_000_000
        finally:
            tracemalloc.stop()
            flooder.close()
        assert len(flooded.storage) == 1
        assert len(flooded._probing) <= 16


async def test_no_more_than_sixteen_strangers_are_tried_at_once():
    """Each query under a new id from a new port makes us ask back, which a forged source must not multiply."""
    async with node(storing=True) as (asked, _):
        for port in range(2000, 2100):
            asked._asked(Query(b"t", b"ping", {b"id": os.urandom(20)}), Endpoint.parse(f"127.0.0.1:{port}"))
        assert len(asked._probing) == 16


async def test_a_flooder_gets_no_more_answers_than_its_rate():
    answers = 0

    def count(*_: object) -> None:
        nonlocal answers
        answers += 1

    victim = Node(storing=True, limits=Limits(rate=100.0, burst=2_000.0))
    (endpoint,) = await victim.start(["127.0.0.1"])
    flooder = Channel(lambda *_: b"", count, Limiter(GENEROUS), Patience())
    flooder.bind("127.0.0.2", 0)
    async with victim:
        waiting = [flooder.query(endpoint, b"ping", {b"id": bytes(20)}, read_only=True) for _ in range(200)]
        await asyncio.wait(waiting, timeout=0.3)
        assert 1 <= answers < 30
        flooder.close()


async def test_queries_without_an_answer_are_bounded():
    async with node() as (asking, _):
        silent = liar(lambda *_: b"")
        endpoint = silent.bind("127.0.0.1", 0)
        silent.close()
        futures = [asking._query(endpoint, b"ping", {}) for _ in range(5000)]
        assert sum(not each.done() for each in futures) == 1024
        await asking.close()
        assert all(each.result() is None for each in futures)


def test_a_datagram_that_is_no_message_is_dropped():
    async def work() -> None:
        async with node(storing=True) as (target, endpoint), node() as (other, _):
            for data in (b"", b"x", b"d1:t2:aa1:y1:re", os.urandom(1400), b"l" * 1000):
                other._channels[4]._send(data, endpoint)
            assert await other.bootstrap([endpoint]) == 1
            assert target.storage is not None

    asyncio.run(work())


# upkeep, restart, entry


async def test_upkeep_forgets_expired_items_and_finds_the_dead():
    async with swarm(10) as network:
        first, *_, last = network.endpoints
        kept = network.nodes[first]
        kept.storage.put(made := item(), b"host", asyncio.get_running_loop().time() - 7200)
        await network.kill([last])
        kept.tables[4].failed(last)
        await tend(kept)
        assert kept.storage.get(made.target, 0.0) is None
        assert last not in {contact.endpoint for contact in kept.tables[4].closest(made.target, 100)}


async def test_a_node_takes_an_id_that_fits_its_public_address():
    async with swarm(4) as network:
        mover = network.nodes[network.endpoints[-1]]
        before = mover.identity
        for host in range(5):
            mover._observed[4].hear(Endpoint.parse(f"8.8.{host}.8:1"), Endpoint.parse("1.2.3.4:5"))
        assert mover.misplaced()
        await tend(mover)
        assert not mover.misplaced()
        assert mover.identity != before
        assert mover.contacts()


async def test_entering_takes_the_first_answer():
    async with swarm(3) as network, node() as (user, _):
        dead = [Endpoint.parse(f"127.0.0.1:{port}") for port in free_ports(3)]
        names = [str(network.endpoints[0]), "localhost:1"]
        entry = await enter(user, names, dead)
        assert entry.answered
        assert user.contacts()


async def test_entering_an_absent_network_says_who_was_asked():
    async with node() as (user, _):
        dead = [f"127.0.0.1:{port}" for port in free_ports(3)]
        start = asyncio.get_running_loop().time()
        entry = await enter(user, dead, [], seconds=0.5)
        assert not entry.answered
        assert len(entry.asked) == 3
        assert asyncio.get_running_loop().time() - start < 3


async def test_a_storing_node_serves_and_comes_back_with_its_id(tmp_path):
    (port,), lines = free_ports(), []
    state = tmp_path / "deep" / "state"

    async def run(bootstrap: list[str]) -> None:
        async with asyncio.timeout(1.0):
            await serve(["127.0.0.1"], port, bootstrap, state, lines.append)

    async with swarm(5) as network:
        with pytest.raises(TimeoutError):
            await run([str(network.endpoints[0])])
        memory = Memory.load(state)
        assert memory.identity is not None
        assert set(memory.endpoints) == set(network.endpoints)
        with pytest.raises(TimeoutError):
            await run([])
        assert Memory.load(state).identity == memory.identity
    assert lines[0] == f"storing node listens on 127.0.0.1:{port}"
    assert lines[1] == "5 nodes known, 0 items stored"


async def test_the_first_node_of_a_network_is_found_by_the_second(tmp_path):
    (port,) = free_ports()
    serving = asyncio.ensure_future(serve(["127.0.0.1"], port, [], tmp_path / "state", lambda _: None))
    await asyncio.sleep(0)
    try:
        async with node() as (user, _):
            assert await user.bootstrap([Endpoint.parse(f"127.0.0.1:{port}")]) == 1
            made = item()
            assert (await user.put(made)).count == 1
            assert await found(user, made) == [made]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_a_port_in_use_is_an_error():
    async with node() as (_, endpoint):
        with pytest.raises(OSError, match="in use"):
            await serve(["127.0.0.1"], endpoint.port, report=lambda _: None)


@pytest.mark.parametrize("rubbish", [b"", b"\0\xff" * 100, b"id zz\nid 00\n127.0.0.1\n\n::1:5\n", b"# only a comment"])
def test_a_spoilt_memory_is_an_empty_one(tmp_path, rubbish):
    path = tmp_path / "nodes"
    path.write_bytes(rubbish)
    assert Memory.load(path) == Memory()


def test_a_memory_keeps_what_makes_sense(tmp_path):
    path = tmp_path / "nodes"
    path.write_text("rubbish\n127.0.0.1:5\n[::1]:6\n127.0.0.1:5\n")
    assert Memory.load(path).endpoints == (Endpoint.parse("127.0.0.1:5"), Endpoint.parse("[::1]:6"))


def test_a_memory_is_bounded_and_private(tmp_path):
    path = tmp_path / "nodes"
    Memory.of(Endpoint.parse(f"127.0.0.1:{port}") for port in range(1, 1000)).save(path)
    assert len(Memory.load(path).endpoints) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["nodes"]


def test_a_memory_without_a_place_is_lost_in_silence(tmp_path):
    (tmp_path / "file").write_text("")
    Memory.of([]).save(tmp_path / "file" / "nodes")
    Memory.of([]).save(None)
    assert Memory.load(None) == Memory()
    assert Memory.load(tmp_path) == Memory()


def test_read_keeps_messages_whole():
    assert isinstance(read(Query(b"aa", b"ping", {b"id": bytes(20)}).encode()), Query)
