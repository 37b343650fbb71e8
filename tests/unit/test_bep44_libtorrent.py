"""Interoperation with libtorrent, both ways: our client with its nodes, its client with ours."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nacl.signing import SigningKey

from tests.backends.dhtnodes import item, node, signer, swarm
from tests.support import cannot_run, free_ports
from wgdisco.bep44 import Item
from wgdisco.endpoint import Endpoint

try:
    import libtorrent
except ImportError:  # no wheel for this Python
    libtorrent = None

SETTINGS = {
    "dht_bootstrap_nodes": "",
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_prefer_verified_node_ids": False,
    "dht_enforce_node_id": False,
    "dht_ignore_dark_internet": False,
    "dht_block_ratelimit": 1000,
    "dht_upload_rate_limit": 10_000_000,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_dht": True,
}


@pytest.fixture
def sessions() -> Iterator[Callable[[int], list[tuple[Any, Endpoint]]]]:
    """So many libtorrent sessions on loopback, each with the endpoint of its DHT node."""
    if libtorrent is None:
        cannot_run("libtorrent is not installed; `pip install libtorrent` installs it where there is a wheel")
    made: list[Any] = []

    def make(number: int) -> list[tuple[Any, Endpoint]]:
        endpoints = []
        for port in free_ports(number):
            alerts = libtorrent.alert.category_t.dht_notification
            listening = {"listen_interfaces": f"127.0.0.1:{port}", "alert_mask": alerts}
            made.append(libtorrent.session({**SETTINGS, **listening}))
            endpoints.append(Endpoint.parse(f"127.0.0.1:{port}"))
        return list(zip(made, endpoints, strict=True))

    yield make
    for each in made:
        each.pause()


async def alert(session: Any, kind: type, wanted: Callable[[Any], bool], seconds: float = 10) -> Any:
    """The next alert of a kind that is as wanted, or None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for each in session.pop_alerts():
            if isinstance(each, kind) and wanted(each):
                return each
        await asyncio.sleep(0.02)
    return None


async def entered(reader: Any, endpoints: list[Endpoint]) -> bool:
    """Whether a node got an answer from all of these within 10 s."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if await reader.bootstrap(endpoints, seconds=0.6) == len(endpoints):
            return True
    return False


async def test_our_client_puts_and_gets_on_libtorrents_nodes(sessions):
    endpoints = [endpoint for _, endpoint in sessions(10)]
    async with node() as (writer, _), node() as (reader, seen):
        assert await entered(writer, endpoints)
        assert await entered(reader, endpoints)
        by = signer()
        old, made = item(5, b"old", by), item(1700000000123456, bytes(range(256)) * 2 + bytes(169), by)
        assert (await writer.put(old)).count == 8
        assert (await writer.put(made)).count == 8
        assert [each async for each in reader.get(made.public)] == [made]
        assert (await writer.put(old)).newer == made
        assert (await writer.put(item(made.seq + 1, b"cas", by), cas=1)).refusals == {301: 8}
        assert (await writer.put(item(made.seq + 1, b"cas", by), cas=made.seq)).count == 8
        assert list(reader.observed()) == [seen]
        # libtorrent also names whoever has put something, read-only or not
        assert reader.observed()[seen] >= 10


async def test_libtorrents_client_finds_what_we_put_on_its_nodes(sessions):
    """Libtorrent checks the signature of a blinded WireGuard key, and gives out the very bytes."""
    everybody = sessions(10)
    async with node() as (writer, _):
        assert await entered(writer, [endpoint for _, endpoint in everybody])
        made = item(7, b"from wgdisco")
        await writer.put(made)
        # the writer stays: libtorrent names whoever has put something, and waits 15 s for one that is gone
        session, _ = everybody[0]
        for _, endpoint in everybody[1:]:
            session.add_dht_node((str(endpoint.address), endpoint.port))
        found = await item_by_libtorrent(session, made)
        assert (found.item, found.seq, found.signature, found.authoritative) == (
            b"from wgdisco",
            7,
            made.signature,
            True,
        )


async def item_by_libtorrent(session: Any, made: Item) -> Any:
    """What libtorrent finds under a key; it is asked again until it has entered the network."""
    for _ in range(20):
        session.dht_get_mutable_item(made.public, b"")
        kind = libtorrent.dht_mutable_item_alert
        found = await alert(session, kind, lambda each: bool(each.item) and each.authoritative, seconds=0.5)
        if found is not None:
            return found
    raise AssertionError("libtorrent found nothing within 10 s")


async def test_libtorrents_client_enters_a_network_of_ours_puts_and_gets(sessions):
    ((session, _),) = sessions(1)
    async with swarm(12) as network, node() as (reader, _):
        # one node is enough: libtorrent finds the others by get_peers
        session.add_dht_node(("127.0.0.1", network.endpoints[0].port))
        assert await reader.bootstrap(network.endpoints[:1]) == 1
        ours = item(9, b"of ours")
        await reader.put(ours)
        assert (await item_by_libtorrent(session, ours)).item == b"of ours"

        key = SigningKey.generate()
        public = bytes(key.verify_key)
        session.dht_put_mutable_item(expanded(key), public, b"of libtorrent", b"salt")
        # one of the eight may be our reader, which takes no puts: libtorrent counts it as a node once it has put
        assert (await alert(session, libtorrent.dht_put_alert, lambda _: True)).num_success >= 7
        found = [each async for each in reader.get(public, b"salt")]
        assert [(each.seq, each.value, each.salt) for each in found] == [(1, b"of libtorrent", b"salt")]
        holders = [each for each in network.nodes.values() if each.storage.get(found[0].target, 0.0)]
        assert len(holders) >= 7


def expanded(key: SigningKey) -> bytes:
    """The form of a key that libtorrent signs with: scalar and nonce prefix, 64 bytes (RFC 8032 section 5.1.5)."""
    hashed = bytearray(hashlib.sha512(bytes(key)).digest())
    hashed[0] &= 248
    hashed[31] = hashed[31] & 63 | 64
    return bytes(hashed)
