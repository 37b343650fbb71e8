"""The dht backend keeps the contract, remembers who answered, and says what to do when nobody does."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.backends.common import opening
from tests.backends.dhtnodes import DhtServer, Swarm, swarm
from tests.support import free_ports
from wgdisco.backends.dht import BOOTSTRAP, DHT, wgdisco_backends
from wgdisco.bep44.memory import Memory, remembered_in
from wgdisco.errors import StoreError, UsageError
from wgdisco.testing import Author, BackendContract


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DhtServer]:
    with DhtServer(tmp_path_factory.mktemp("dht")) as running:
        yield running


class TestContract(BackendContract):
    @pytest.fixture(autouse=True)
    def network(self, server: DhtServer) -> None:
        self.control = server

    def backend(self) -> DHT:
        return DHT(bootstrap=[f"127.0.0.1:{port}" for port in self.control.ports[:2]], bind="127.0.0.1")


def opened(network: Swarm | None, cache: Path | None = None, **options) -> AbstractAsyncContextManager[DHT]:
    """A backend that starts from the first node of a network."""
    names = [str(endpoint) for endpoint in network.endpoints[:1]] if network else options.pop("bootstrap", [])
    backend = DHT(bootstrap=names, **{"bind": "127.0.0.1", **options})
    backend.cache = cache
    return opening(backend)


def test_the_module_offers_the_backend_and_nothing_else():
    assert wgdisco_backends() == [DHT]
    assert DHT.name == "dht"


def test_the_public_network_is_the_default():
    assert DHT().bootstrap == list(BOOTSTRAP)
    assert BOOTSTRAP[0] == "router.bittorrent.com:6881"


async def test_the_newest_of_several_values_comes_first():
    """Nodes that missed an update still have the old one; the core may choose."""
    async with swarm(12) as network, opened(network) as backend:
        author = Author()
        old, new = author.slot(), author.slot()
        await backend.put(old, b"old", 600)
        holders = [node for node in network.nodes.values() if len(node.storage)]
        saved = holders[0].storage.get(next(iter(holders[0].storage._kept)), 0.0)
        await backend.put(new, b"new", 600)
        holders[0].storage._drop(saved.target)
        holders[0].storage.put(saved, b"host", asyncio.get_running_loop().time())
        assert await backend.get(author.reading()) == [b"new", b"old"]


async def test_no_bootstrap_node_answers():
    """The message says how many were asked and what to do, within about 3 s."""
    names = [f"127.0.0.1:{port}" for port in free_ports(3)]
    async with opened(None, bootstrap=names) as backend:
        start = time.monotonic()
        with pytest.raises(StoreError) as error:
            await backend.get(Author().reading())
        assert time.monotonic() - start < 4
    assert str(error.value) == (
        "asked 3 bootstrap nodes, none answered. Give a node that answers with -o bootstrap=HOST:PORT, "
        "let UDP through the firewall, or use another backend"
    )


async def test_no_bootstrap_node_has_an_address(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with opened(None, bootstrap=["dht.invalid:6881"]) as backend:
        with pytest.raises(
            StoreError, match=r"asked 0 bootstrap nodes, none answered; no address was found for dht\.invalid:6881"
        ):
            await backend.put(Author().slot(), b"blob", 600)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("example.org", "node 'example.org': expected HOST:PORT"),
        ("example.org:0", "expected HOST:PORT"),
        ("example.org:99999", "expected HOST:PORT"),
        (":6881", "expected HOST:PORT"),
        ("::1:6881", r"an IPv6 address is written in brackets, as \[2001:db8::1\]:6881"),
    ],
)
async def test_a_bootstrap_node_of_the_wrong_form_is_quoted(name, message):
    with pytest.raises(UsageError, match=message):
        await DHT(bootstrap=[name]).open()


async def test_a_port_in_use_is_said():
    async with opened(None) as first:
        port = first._node._channels[4]._socket.getsockname()[1]
        with pytest.raises(
            StoreError, match=rf"cannot open a socket on 127.0.0.1, UDP port {port}: .*in use.*-o port="
        ):
            await DHT(bootstrap=[], bind="127.0.0.1", port=port).open()


async def test_an_address_that_is_none_is_said():
    with pytest.raises(StoreError, match="cannot open a socket on nonsense"):
        await DHT(bootstrap=[], bind="nonsense").open()


async def test_an_older_record_than_the_one_stored_is_an_error():
    async with swarm(8) as network, opened(network) as backend:
        author = Author()
        older, newer = author.slot(), author.slot()
        await backend.put(newer, b"newer", 600)
        with pytest.raises(StoreError, match=f"number {newer.seq} is already in the slot, ours has {older.seq}"):
            await backend.put(older, b"older", 600)


async def test_another_value_under_the_same_number_is_an_error():
    async with swarm(8) as network, opened(network) as backend:
        slot = Author().slot()
        await backend.put(slot, b"one", 600)
        with pytest.raises(StoreError, match="another host publishes with this key"):
            await backend.put(slot, b"two", 600)


async def test_a_value_signed_for_another_slot_is_never_stored():
    async with swarm(8) as network, opened(network) as backend:
        mine, other = Author(), Author()
        forged = replace(other.slot(), sign=mine.slot().sign)
        with pytest.raises(StoreError, match="no node took the value: 8 with error 206"):
            await backend.put(forged, b"forged", 600)
        assert await backend.get(other.reading()) == []


async def test_one_node_that_stores_is_enough():
    async with swarm(1) as network, opened(network) as backend:
        author = Author()
        await backend.put(author.slot(), b"blob", 600)
        assert await backend.get(author.reading()) == [b"blob"]


async def test_ipv6_alone():
    async with swarm(8, "::1") as network, opened(network, bind="::1") as backend:
        author = Author()
        await backend.put(author.slot(), b"blob", 600)
        assert await backend.get(author.reading()) == [b"blob"]


async def test_who_answered_is_asked_again_after_a_restart(tmp_path):
    """The bootstrap node is gone by then; those it led to are remembered."""
    author = Author()
    async with swarm(12) as network:
        first = network.endpoints[0]
        async with opened(network, tmp_path) as backend:
            await backend.put(author.slot(), b"blob", 600)
        assert first in Memory.load(remembered_in(tmp_path, "nodes", [str(first)])).endpoints
        await network.kill([first])
        async with opened(None, tmp_path, bootstrap=[str(first)]) as backend:
            assert await backend.get(author.reading()) == [b"blob"]


async def test_a_spoilt_cache_is_ignored(tmp_path):
    async with swarm(8) as network:
        path = remembered_in(tmp_path, "nodes", map(str, network.endpoints[:1]))
        path.write_bytes(b"\0\xffrubbish\n" * 100)
        async with opened(network, tmp_path) as backend:
            author = Author()
            await backend.put(author.slot(), b"blob", 600)
            assert await backend.get(author.reading()) == [b"blob"]
    assert len(Memory.load(path).endpoints) == 8


async def test_nodes_of_another_network_are_not_asked(tmp_path):
    """Who goes from the public network to one of his own does not go on publishing in the public one."""
    author = Author()
    async with swarm(8) as public, swarm(8) as private:
        async with opened(public, tmp_path) as backend:
            await backend.put(author.slot(), b"blob", 600)
        async with opened(private, tmp_path) as backend:
            assert await backend.get(author.reading()) == []


async def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    async with swarm(4) as network, opened(network, tmp_path / "file" / "cache") as backend:
        await backend.put(Author().slot(), b"blob", 600)


async def test_a_network_that_went_away_is_entered_anew(tmp_path):
    """Every node we knew is dead, and the bootstrap node has come back on its old port."""
    author = Author()
    (port,) = free_ports()
    async with swarm(4, ports=[port, *free_ports(3)]) as network, opened(network) as backend:
        await backend.put(author.slot(), b"before", 600)
        await network.kill(network.endpoints)
        async with swarm(4, ports=[port, *free_ports(3)]):
            await backend.put(author.slot(), b"after", 600)
            assert await backend.get(author.reading()) == [b"after"]


async def test_thirty_percent_of_the_nodes_die_between_put_and_get():
    async with swarm(40) as network, opened(network) as writer, opened(network) as reader:
        author = Author()
        for number in range(4):
            await writer.put(author.slot(number), b"%d" % number, 600)
        await network.kill(network.endpoints[1:13])
        found = {slot.id: values async for slot, values in reader.fetch([author.reading(n) for n in range(4)])}
        assert found == {author.reading(n).id: [b"%d" % n] for n in range(4)}
