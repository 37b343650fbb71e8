"""What a node says, to whom, where it puts it, and what it takes away again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from wgdisco.audience import Scope
from wgdisco.backends.memory import Memory
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, NotFound, RetryLater, UsageError
from wgdisco.keys import PrivateKey
from wgdisco.node import Node, open_node
from wgdisco.record import Candidate, Kind
from wgdisco.state import State
from wgdisco.store import Store
from wgdisco.upkeep import repair, tidy

NOW = 1_795_233_600_000
HOUR = 3_600_000
ALICE, BOB, CAROL = (PrivateKey(letter * 32) for letter in (b"a", b"b", b"c"))
HERE = [Candidate(Kind.MAPPED, Endpoint.parse("192.0.2.7:51820"))]
THERE = [Candidate(Kind.MAPPED, Endpoint.parse("198.51.100.7:51820"))]
MANY = [Candidate(Kind.MAPPED, Endpoint.parse(f"[2001:db8::{number}]:51820")) for number in range(1, 17)]


class Small(Memory):
    """A store that takes 281 bytes a value."""

    name = "small"
    max_size = 281


class Other(Memory):
    """A second store."""

    name = "other"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class World:
    """Nodes that share a store and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.room = folder, Clock(), uuid4().hex
        self.nodes: list[Node] = []

    def node(self, private: PrivateKey | None, *backends: type[Memory], networks=()) -> Node:
        stores = [Store(backend(room=self.room + backend.name)) for backend in backends or (Memory,)]
        state = State.open(private.public if private else None, self.folder)
        self.nodes.append(Node(stores, state, private, networks, clock=self.clock))
        return self.nodes[-1]

    def stored(self, backend: type[Memory] = Memory) -> dict[bytes, bytes]:
        return {slot: value for slot, (value, _) in backend(room=self.room + backend.name)._room.values.items()}


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    for node in made.nodes:
        asyncio.run(node.close())


async def test_each_peer_reads_its_own_record_and_no_other_one(world) -> None:
    alice = world.node(ALICE)
    await alice.publish(HERE, alice.readers(Scope.PEERS, [BOB.public, CAROL.public]))
    assert len(set(world.stored().values())) == len(world.stored()) >= 2
    for reader in (BOB, CAROL):
        finding = await world.node(reader).find(ALICE.public)
        assert (list(finding.record.candidates), world.nodes[-1].scope_of(finding)) == (HERE, Scope.PEERS)
    stranger = world.node(PrivateKey(b"z" * 32))
    with pytest.raises(NotFound):
        await stranger.find(ALICE.public)
    with pytest.raises(NotFound):
        await world.node(None).find(str(ALICE.public))


async def test_two_network_secrets_may_be_valid_during_a_change(world) -> None:
    old, new = b"o" * 32, b"n" * 32
    alice = world.node(ALICE, networks=[old])
    await alice.publish(HERE, alice.readers(Scope.NETWORK, []))
    assert (await world.node(BOB, networks=[new, old]).find(ALICE.public)).record.issued == NOW
    with pytest.raises(NotFound):
        await world.node(CAROL, networks=[new]).find(ALICE.public)


async def test_the_same_again_puts_the_identical_bytes_until_a_third_of_the_lifetime(world) -> None:
    alice = world.node(ALICE)
    readers = alice.readers(Scope.KEY, [])
    first = await alice.publish(HERE, readers)
    before = world.stored()
    world.clock.now += HOUR // 3 - 1
    again = await alice.publish(HERE, readers)
    assert (again.issued, world.stored()) == (first.issued, before)
    world.clock.now += 1
    assert (await alice.publish(HERE, readers)).issued == world.clock.now


async def test_the_same_again_after_a_restart_puts_the_identical_bytes(world) -> None:
    alice = world.node(ALICE)
    await alice.publish(HERE, alice.readers(Scope.KEY, []))
    before = world.stored()
    await alice.close()
    world.nodes.clear()
    alice = world.node(ALICE)
    await alice.publish(HERE, alice.readers(Scope.KEY, []))
    assert world.stored() == before


async def test_a_change_is_signed_at_once_with_a_later_time(world) -> None:
    alice = world.node(ALICE)
    readers = alice.readers(Scope.KEY, [])
    await alice.publish(HERE, readers)
    changed = await alice.publish([], readers)
    assert changed.issued == NOW + 1
    assert (await world.node(BOB).find(ALICE.public)).record.candidates == ()


async def test_a_store_of_small_values_gets_fewer_candidates_and_the_whole_record_wins(world) -> None:
    alice = world.node(ALICE, Memory, Small)
    publication = await alice.publish(MANY, alice.readers(Scope.KEY, []))
    assert publication.stored == ["memory", "small"]
    assert publication.dropped == {"small": 14}
    assert all(len(blob) <= 281 for blob in world.stored(Small).values())
    assert list((await world.node(BOB, Small).find(ALICE.public)).record.candidates) == MANY[:2]
    found = await world.node(CAROL, Small, Memory).resolve(ALICE.public, settle=None)
    assert (list(found.best.record.candidates), found.best.equivocation) == (MANY, False)


async def test_a_record_is_written_to_every_slot_until_it_ends(world) -> None:
    """Whenever in its lifetime the reader comes, the record lies where it looks."""
    alice = world.node(ALICE)
    readers = alice.readers(Scope.KEY, [])
    world.clock.now = border(readers[0]) - HOUR // 2
    await alice.publish(HERE, readers)
    assert len(world.stored()) == 2
    for later in (0, HOUR // 2 - 1, HOUR // 2 + 1, HOUR - 1):
        world.clock.now = border(readers[0]) - HOUR // 2 + later
        assert (await world.node(BOB).find(ALICE.public)).record.lifetime == 3600


async def test_a_shorter_record_reaches_every_slot_of_a_longer_one_before_it(world) -> None:
    """So that the older record does not outlive the newer one in a later slot."""
    alice = world.node(ALICE)
    readers = alice.readers(Scope.KEY, [])
    world.clock.now = border(readers[0]) - HOUR // 2
    await alice.publish(HERE, readers)
    alice.lifetime = 60
    await alice.publish([], readers)
    world.clock.now = border(readers[0]) + 60_000
    found = await world.node(BOB).resolve(ALICE.public, settle=None)
    assert found.best is None
    assert set(found.answers["memory"].refused) == {"expired"}


def border(audience) -> int:
    """The next border between two periods of Alice's slots (milliseconds)."""
    now = NOW
    while audience.period(ALICE.public, now) == audience.period(ALICE.public, now + 60_000):
        now += 60_000
    return now + 60_000


async def test_slots_of_past_periods_are_removed_from_the_store(world) -> None:
    alice = world.node(ALICE)
    readers = alice.readers(Scope.KEY, [])
    await alice.publish(HERE, readers)
    yesterday = set(world.stored())
    assert await tidy(alice) == 0
    world.clock.now += 26 * HOUR
    await alice.publish(HERE, readers)
    assert await tidy(alice) == len(yesterday)
    assert not yesterday & set(world.stored())
    assert await tidy(alice) == 0


async def test_a_store_that_is_down_is_tidied_later(world) -> None:
    alice = world.node(ALICE)
    await alice.publish(HERE, alice.readers(Scope.KEY, []))
    world.clock.now += 26 * HOUR
    backend, working = alice.stores[0].backend, alice.stores[0].backend.remove

    async def broken(_slot) -> None:
        raise OSError("down")

    backend.remove = broken
    assert await tidy(alice) == 0
    backend.remove = working
    assert await tidy(alice) == 0  # it is still left alone
    alice.stores[0].writing.resume = 0.0
    assert await tidy(alice) >= 1


async def test_a_store_that_lost_the_record_gets_the_identical_bytes_again(world) -> None:
    alice = world.node(ALICE, Memory, Small)
    readers = alice.readers(Scope.KEY, [])
    await alice.publish(HERE, readers)
    whole = world.stored()
    room = Memory(room=world.room + "memory")._room
    for slot in whole:
        room.values[slot] = (b"somebody else's", room.values[slot][1])
    assert await repair(alice, readers) == ["memory"]
    assert world.stored() == whole
    assert await repair(alice, readers) == []


async def test_what_another_host_signed_later_with_our_key_stays(world, tmp_path) -> None:
    """Two hosts with one key do not overwrite each other for ever: the last to publish wins."""
    first = world.node(ALICE)
    world.folder = tmp_path / "the other host"
    second = world.node(ALICE)
    readers, clashes = first.readers(Scope.KEY, []), []
    await first.publish(HERE, readers)
    world.clock.now += 1000
    await second.publish(THERE, readers)
    later = world.stored()
    assert (await repair(first, readers, lambda: clashes.append("first")), world.stored()) == ([], later)
    assert await repair(second, readers, lambda: clashes.append("second")) == []
    assert set(clashes) == {"first"}


async def test_what_could_not_be_put_while_a_store_rested_is_put_by_the_repair_after_it(world) -> None:
    """A change of address is not lost on a store that was to be left alone just then."""
    alice = world.node(ALICE, Memory, Other)
    readers, store = alice.readers(Scope.KEY, []), alice.stores[0]
    put = store.backend.put

    async def busy(*_) -> None:
        raise RetryLater(60, "429")

    store.backend.put = busy
    await alice.publish(HERE, readers)
    store.backend.put = put
    world.clock.now += 1000
    publication = await alice.publish(THERE, readers)
    assert str(publication.outcomes[0].error) == "memory: 429; left alone for another 60 s"
    assert publication.stored == ["other"]
    assert await repair(alice, readers) == []
    store.writing.resume = store.writing._wanted_until = 0.0  # as if that time had passed
    assert await repair(alice, readers) == ["memory"]
    stored = [value for value, _ in store.backend._room.values.values()]
    assert stored == [value for value, _ in alice.stores[1].backend._room.values.values()]


async def test_nothing_is_repaired_after_it_has_ended(world) -> None:
    alice = world.node(ALICE)
    readers = alice.readers(Scope.KEY, [])
    await alice.publish(HERE, readers)
    Memory(room=world.room + "memory")._room.values.clear()
    world.clock.now += HOUR + 1
    assert (await repair(alice, readers), world.stored()) == ([], {})


def test_who_may_read_has_to_make_sense(world) -> None:
    alice = world.node(ALICE)
    peers = [PrivateKey(bytes([number, 1]) * 16).public for number in range(101)]
    with pytest.raises(UsageError, match=r"^101 peers, and one record for each is too many \(at most 100\); choose"):
        alice.readers(Scope.PEERS, peers)
    assert len(alice.readers(Scope.PEERS, peers[:100])) == 100
    with pytest.raises(UsageError, match="--secret-file FILE"):
        alice.readers(Scope.NETWORK, [])
    with pytest.raises(AccessError, match=r"^a private key is needed: -i INTERFACE"):
        world.node(None).readers(Scope.KEY, [])


async def test_a_node_is_opened_from_names_and_options(tmp_path) -> None:
    room = uuid4().hex
    async with open_node({"memory": {"room": room}}, ALICE, folder=tmp_path) as node:
        await node.publish(HERE, node.readers(Scope.KEY, []))
        assert (await node.find(ALICE.public)).record.subject == ALICE.public


async def test_what_was_found_is_remembered(world) -> None:
    alice, bob = world.node(ALICE), world.node(BOB)
    await alice.publish(HERE, alice.readers(Scope.KEY, []))
    await bob.find(ALICE.public)
    good = bob.state.good(ALICE.public)
    assert (good.backend, good.seen, list(good.record.candidates)) == ("memory", NOW, HERE)
