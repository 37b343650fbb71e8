"""kademlia keeps the contract in a swarm of real members, believes no stranger, and says what to do when alone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import umsgpack
from kademlia.network import Server

from tests.backends.common import LATER, opening
from tests.backends.kademlianodes import SwarmServer, swarm, where
from tests.support import free_ports
from wgdisco.backends import _kademlia_values as values
from wgdisco.backends._kademlia_values import Shelf, Value, admitted
from wgdisco.backends.kademlia import Kademlia
from wgdisco.bep44.memory import remembered_in
from wgdisco.errors import ConfigError, StoreError, UsageError
from wgdisco.testing import Author, BackendContract


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmServer]:
    with SwarmServer(tmp_path_factory.mktemp("swarm")) as running:
        yield running


def opened(*bootstrap: object, cache: Path | None = None, **options: Any) -> AbstractAsyncContextManager[Kademlia]:
    backend = Kademlia(bootstrap=[str(each) for each in bootstrap], **{"bind": "127.0.0.1", **options})
    backend.cache = cache
    return opening(backend)


class TestContract(BackendContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: SwarmServer) -> None:
        self.control = server

    def backend(self) -> Kademlia:
        return Kademlia(bootstrap=[f"127.0.0.1:{port}" for port in self.control.ports[:2]], bind="127.0.0.1")


# what a member holds


def test_a_value_that_verifies_is_held() -> None:
    slot, shelf = Author().slot(), Shelf()
    value = Value.signed(slot, b"x")
    assert value.key == slot.id
    assert shelf.store(slot.id, value.encode()) == "taken"
    assert shelf.get(slot.id) == value.encode()


@pytest.mark.parametrize("place", [0, 31, 32, 39, 40, 103, 104, -1])
def test_a_value_changed_anywhere_is_refused(place: int) -> None:
    slot, shelf = Author().slot(), Shelf()
    data = bytearray(Value.signed(slot, b"blob").encode())
    data[place] ^= 1
    assert shelf.store(slot.id, bytes(data)) == "invalid"
    assert shelf.get(slot.id) is None


@pytest.mark.parametrize("data", [None, "text", 7, [], b"", bytes(103), bytes(104), bytes(786)])
def test_what_is_no_value_is_refused(data: object) -> None:
    assert Shelf().store(Author().slot().id, data) == "invalid"


def test_a_value_in_the_place_of_another_is_refused() -> None:
    author = Author()
    assert Shelf().store(author.slot(1).id, Value.signed(author.slot(0), b"x").encode()) == "invalid"


def test_an_older_value_is_refused_and_the_same_taken_again() -> None:
    author, shelf = Author(), Shelf()
    old, new = author.slot(), author.slot()
    assert shelf.store(new.id, Value.signed(new, b"new").encode()) == "taken"
    assert shelf.store(old.id, Value.signed(old, b"old").encode()) == "older"
    assert shelf.store(new.id, Value.signed(new, b"other").encode()) == "older"
    assert shelf.store(new.id, Value.signed(new, b"new").encode()) == "taken"
    assert admitted(new.id, shelf.get(new.id)).blob == b"new"


def test_a_value_is_held_for_two_hours() -> None:
    now, slot = 0.0, Author().slot()
    shelf = Shelf(lambda: now)
    shelf.store(slot.id, Value.signed(slot, b"x").encode())
    now = 7199.0
    assert shelf.get(slot.id)
    now = 7200.0
    assert shelf.get(slot.id) is None


def test_a_full_member_refuses_until_something_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MOST", 2)
    now, author = 0.0, Author()
    shelf = Shelf(lambda: now)
    told = [shelf.store(slot.id, Value.signed(slot, b"x").encode()) for slot in map(author.slot, (0, 1, 2, 0))]
    assert told == ["taken", "taken", "full", "taken"]
    now = 7200.0
    assert shelf.store(author.slot(2).id, Value.signed(author.slot(2), b"x").encode()) == "taken"


# the swarm


async def test_every_member_of_a_small_swarm_holds_a_value() -> None:
    author = Author()
    async with swarm(12) as members, opened(where(members[3])) as backend:
        await backend.put(author.slot(), b"x", LATER)
        assert sum(member.storage.get(author.reading().id) is not None for member in members) == 12


async def test_a_reader_takes_the_newest_first_and_all_that_is_valid() -> None:
    """Members that missed a change do not hide it."""
    author = Author()
    async with swarm(8) as members:
        for member, blob in ((members[2], b"old"), (members[5], b"new")):
            slot = author.slot()
            assert member.storage.store(slot.id, Value.signed(slot, blob).encode()) == "taken"
        async with opened(where(members[0])) as backend:
            assert await backend.get(author.reading()) == [b"new", b"old"]


async def test_lying_members_are_ignored() -> None:
    """Members of the bare library hold and tell anything."""
    author = Author()
    key, liars = author.reading().id, [Server() for _ in range(5)]
    lies = [b"garbage", "text", Value.signed(Author().slot(), b"foreign").encode(), bytes(8000), -1]
    async with swarm(6) as members:
        try:
            for liar, lie in zip(liars, lies, strict=True):
                await liar.listen(0, "127.0.0.1")
                liar.protocol.rpc_find_value = lambda *_, lie=lie: {"value": lie}
                await liar.bootstrap([("127.0.0.1", where(members[0]).port)])
            async with opened(where(members[0])) as backend:
                await backend.put(author.slot(), b"true", LATER)
                assert await backend.get(author.reading()) == [b"true"]
                assert len(backend._member.neighbours) == 11
        finally:
            for liar in liars:
                liar.stop()
        assert {admitted(key, member.storage.get(key)).blob for member in members} == {b"true"}


async def test_members_refuse_what_the_bare_library_stores() -> None:
    """Anybody may overwrite anything there."""
    author, stranger = Author(), Server()
    async with swarm(6) as members, opened(where(members[0])) as backend:
        await backend.put(author.slot(), b"true", LATER)
        await stranger.listen(0, "127.0.0.1")
        await stranger.bootstrap([("127.0.0.1", where(members[0]).port)])
        await stranger.set_digest(author.reading().id, b"overwritten")
        stranger.stop()
        assert await backend.get(author.reading()) == [b"true"]


async def test_half_of_the_members_may_be_gone() -> None:
    author = Author()
    async with swarm(12) as members, opened(where(members[0])) as backend:
        await backend.put(author.slot(), b"x", LATER)
        for member in members[6:]:
            member.transport.close()
        async with asyncio.timeout(8):
            assert await backend.get(author.reading()) == [b"x"]
            await backend.put(author.slot(), b"y", LATER)


async def test_an_older_record_is_refused_with_the_reason(server: SwarmServer) -> None:
    author = Author()
    older, newer = author.slot(), author.slot()
    async with opened(f"127.0.0.1:{server.port}") as first, opened(f"127.0.0.1:{server.port}") as second:
        await first.put(newer, b"new", LATER)
        for backend in (first, second):
            with pytest.raises(StoreError, match=f"a value with a greater number than {older.seq} is already"):
                await backend.put(older, b"old", LATER)


async def test_a_wrong_signature_is_refused_by_all(server: SwarmServer) -> None:
    slot = replace(Author().slot(), sign=lambda seq, value: bytes(64))
    async with opened(f"127.0.0.1:{server.port}") as backend:
        with pytest.raises(StoreError, match="no member took the value: 'invalid'"):
            await backend.put(slot, b"x", LATER)


JUNK = [
    b"",
    b"\x00",
    os.urandom(500),
    b"\x00" + bytes(20) + b"\xc1" * 9,
    b"\x00" + bytes(20) + b"\x91" * 4000,
    b"\x07" + bytes(20) + umsgpack.packb(["ping", [bytes(20)]]),
    *(
        b"\x00" + bytes(20) + umsgpack.packb(each)
        for each in (
            None,
            ["ping", []],
            ["ping", [b"short"]],
            ["ping", ["x" * 20]],
            ["stop", [bytes(20)]],
            ["__init__", [bytes(20)]],
            ["find_node", [bytes(20), 7]],
            ["store", [bytes(20), bytes(20)]],
            ["store", [bytes(20), bytes(20), {"a": 1}]],
        )
    ),
    b"\x01" + bytes(20) + umsgpack.packb(True),
]


async def test_junk_stops_no_member(caplog: pytest.LogCaptureFixture) -> None:
    author = Author()
    async with swarm(1) as members, opened(where(members[0])) as backend:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for junk in JUNK:
                stranger.sendto(junk, ("127.0.0.1", where(members[0]).port))
        await backend.put(author.slot(), b"x", LATER)
        assert await backend.get(author.reading()) == [b"x"]
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


@pytest.mark.parametrize(
    "node",
    [
        None,
        [],
        [bytes(20), "localhost", 5],
        [bytes(20), "127.0.0.1", 0],
        [bytes(20), "127.0.0.1", "5"],
        [b"x", "127.0.0.1", 5],
        [bytes(20), 2130706433, 5],
        [bytes(20), "::1", 5],
        [bytes(20), "224.0.0.1", 5],
    ],
)
async def test_a_node_that_cannot_be_asked_is_not(node: object) -> None:
    """A host name would be looked up, and hold up everything."""
    async with swarm(2) as (honest, member):
        member.protocol.rpc_find_node = lambda *_: [node]
        answered, nodes = await honest.protocol.call_find_node(
            honest.protocol.router.find_neighbors(honest.node)[0], honest.node
        )
    assert (answered, nodes) == (True, [])


async def test_a_member_that_ends_says_goodbye() -> None:
    async with swarm(2) as members:
        async with opened(where(members[0])) as backend:
            assert await backend.get(Author().reading()) == []
            assert [len(member.neighbours) for member in members] == [2, 2]
        await asyncio.sleep(0.1)
        assert [len(member.neighbours) for member in members] == [1, 1]


async def test_a_member_that_vanished_is_found_out_by_those_who_only_answer() -> None:
    async with swarm(3) as members:
        members[2].transport.close()
        for node in members[0].protocol.router.find_neighbors(members[0].node):
            node.heard -= 61
        async with opened(where(members[0])) as backend:
            await backend.get(Author().reading())
            await asyncio.gather(*members[0].protocol._pings)
        assert where(members[1]) in members[0].neighbours
        assert len(members[0].neighbours) <= 2


# entering


async def test_two_members_are_a_swarm() -> None:
    author, (port,) = Author(), free_ports()
    async with opened(port=port) as first, opened(f"127.0.0.1:{port}") as second:
        await second.put(author.slot(), b"x", LATER)
        assert await first.get(author.reading()) == [b"x"]


async def test_the_first_member_may_be_alone() -> None:
    """Also when it is named in the configuration that all members share."""
    author, (port,) = Author(), free_ports()
    async with opened(f"127.0.0.1:{port}", port=port) as first:
        await first.put(author.slot(), b"x", LATER)
        async with opened(f"127.0.0.1:{port}") as second:
            assert await second.get(author.reading()) == [b"x"]


async def test_a_member_that_cannot_reach_the_swarm_says_so() -> None:
    (port,) = free_ports()
    async with opened(f"127.0.0.1:{port}") as backend:
        with pytest.raises(StoreError, match=rf"asked 1 bootstrap members \(127\.0\.0\.1:{port}\), no member of the"):
            await backend.get(Author().reading())


async def test_members_that_answered_are_remembered_as_text(tmp_path: Path) -> None:
    author = Author()
    async with swarm(4) as members:
        async with opened(where(members[0]), cache=tmp_path) as backend:
            await backend.put(author.slot(), b"x", LATER)
        gone = str(where(members[0]))
        remembered = remembered_in(tmp_path, "members", [gone])
        assert all(str(where(member)) in remembered.read_text() for member in members)
        members[0].stop()
        async with opened(gone, cache=tmp_path) as backend:
            assert await backend.get(author.reading()) == [b"x"]


async def test_a_port_in_use_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StoreError, match=rf"cannot open a socket on 127\.0\.0\.1, UDP port {port}: "):
            async with opened(port=port):
                pass


async def test_options_that_cannot_be_used_are_named() -> None:
    with pytest.raises(UsageError, match="node 'nowhere': expected HOST:PORT"):
        async with opened("nowhere"):
            pass
    with pytest.raises(ConfigError, match="bind 'eth0': expected an address of this host"):
        async with opened(bind="eth0"):
            pass
