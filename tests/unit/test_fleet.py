"""Thousands of peers: their endpoints are kept fresh on real wireguard-go, and nothing else of them is touched."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address

import pytest
from wireguard_go import box

from tests.support import wait_for
from tests.unit.records import candidate, here, record, sealed
from wgdisco.backends.memory import Memory
from wgdisco.device import Change
from wgdisco.device.routes import Route
from wgdisco.device.shared import SharedDevice
from wgdisco.fleet import Fleet
from wgdisco.keys import PrivateKey
from wgdisco.node import Node
from wgdisco.outlook import Ours
from wgdisco.policy import Ground
from wgdisco.search import Finding
from wgdisco.session import WANTED, Session
from wgdisco.state import State
from wgdisco.store import Store

OWN, LIVE, STRANGER = (PrivateKey(letter * 32) for letter in (b"o", b"l", b"x"))
SECRETS = {"wg0": b"o" * 32, "wg1": b"l" * 32}
MANY = [PrivateKey(bytes([1, number]) * 16) for number in range(250)]
LIVES_AT = "127.0.0.1:51821"


@pytest.fixture(scope="module")
def running():
    with box("wg0", "wg1") as made:
        yield made


@pytest.fixture
def wg0(running):
    """wg0 with a peer that has a session, and 250 that have neither endpoint nor session."""
    peers = "\n".join(
        f"public_key={key.public.raw.hex()}\nallowed_ip=10.1.0.{number}/32\npersistent_keepalive_interval=0"
        for number, key in enumerate(MANY)
    )
    for name, port, other in (("wg0", 51820, LIVE), ("wg1", 51821, OWN)):
        running.configure(
            name,
            f"private_key={SECRETS[name].hex()}\nlisten_port={port}\nreplace_peers=true\n"
            f"public_key={other.public.raw.hex()}\nallowed_ip=10.0.0.{port % 10}/32",
        )
    running.configure("wg0", peers)
    return running.device("wg0")


class Counted:
    """The real device, and what was asked of it."""

    def __init__(self, device):
        self.device, self.name, self.reads, self.updates = device, device.name, 0, []

    def read(self):
        self.reads += 1
        return self.device.read()

    def update(self, changes):
        self.updates.append({change.key: change for change in changes})
        self.device.update(changes)


class Scene:
    """A fleet on the interface, on a host with a route to everything but 192.168.0.0/16."""

    def __init__(self, device, folder):
        self.device = Counted(device)
        self.node = Node([Store(Memory())], State.open(OWN.public, folder), OWN, [b"s" * 32])
        self.routed = set()
        self.meanwhile = []  # to be called while a batch is prepared
        self.ours = Ours(lambda: Ground(self.route), tuple, lambda: ("unknown", "unknown"))
        self.ours.ready.set()
        self.fleet = Fleet(SharedDevice(self.device), self.node, self.ours)

    def route(self, address):
        while self.meanwhile:
            self.meanwhile.pop()()
        private = str(address).startswith("192.168.") and address not in self.routed
        return None if private else Route("eth0", ip_address("198.51.100.1"), on_link=False)

    def take(self, key, *endpoints, age=0.0):
        """The fleet hears that a peer said so."""
        now = int(1000 * (time.time() - age))
        said = record(now, subject=key, candidates=tuple(map(candidate, endpoints)))
        place = here(subject=key, now=now)
        self.fleet.take(key.public, Finding(said, "memory", place, sealed(said, place, key)))

    def endpoints(self):
        """What the interface knows, as text."""
        return {key: str(peer.endpoint) for key, peer in self.device.read().peers.items() if peer.endpoint}


@pytest.fixture
async def scene(wg0, tmp_path):
    made = Scene(wg0, tmp_path)
    yield made
    await made.node.close()


def has_session(device):
    device.update([Change(LIVE.public, candidate(LIVES_AT).endpoint, 25)])
    wait_for(lambda: device.read().peers[LIVE.public].handshake, "there is a handshake")


async def test_many_records_are_written_in_one_batch(scene):
    for number, key in enumerate(MANY):
        scene.take(key, f"192.0.2.1:{1000 + number}")
    assert await scene.fleet.freshen() == scene.fleet.changed == len(MANY)
    assert len(scene.device.updates) == 1
    assert scene.endpoints() == {key.public: f"192.0.2.1:{1000 + number}" for number, key in enumerate(MANY)}


async def test_nothing_but_endpoints_is_changed(scene, running):
    scene.take(MANY[0], "192.0.2.1:1")
    before = running.peers("wg0")
    await scene.fleet.freshen()
    after, key = running.peers("wg0"), MANY[0].public.raw.hex()
    assert after == before | {key: sorted([*before[key], "endpoint=192.0.2.1:1"])}


async def test_a_peer_with_a_session_is_left_alone(scene):
    has_session(scene.device.device)
    scene.take(LIVE, "192.0.2.1:7")
    assert (await scene.fleet.freshen(), scene.endpoints()) == (0, {LIVE.public: LIVES_AT})


async def test_a_session_that_begins_while_a_batch_is_prepared_is_left_alone(scene):
    for key in MANY:
        scene.take(key, "192.0.2.1:7")
    scene.take(LIVE, "192.0.2.1:7")
    scene.fleet.device = scene.device  # without the 20 ms for which a reading is shared
    scene.meanwhile.append(lambda: has_session(scene.device.device))
    assert await scene.fleet.freshen() == len(MANY)
    assert (scene.meanwhile, scene.endpoints()[LIVE.public]) == ([], LIVES_AT)


async def test_what_the_record_says_is_written_when_the_session_has_ended(scene, running, monkeypatch):
    monkeypatch.setattr("wgdisco.fleet.AGAIN", 0.05)
    has_session(scene.device.device)
    scene.take(LIVE, "192.0.2.1:7")
    work = asyncio.ensure_future(scene.fleet.run())
    try:
        await asyncio.sleep(0.5)
        assert scene.endpoints() == {LIVE.public: LIVES_AT}
        key = LIVE.public.raw.hex()
        running.configure("wg0", f"public_key={key}\nremove=true\npublic_key={key}")  # as WireGuard forgets it
        async with asyncio.timeout(10):
            while scene.endpoints() != {LIVE.public: "192.0.2.1:7"}:
                await asyncio.sleep(0.02)
    finally:
        work.cancel()


async def test_a_peer_that_the_interface_does_not_have_is_not_added(scene):
    scene.take(STRANGER, "192.0.2.1:7")
    assert (await scene.fleet.freshen(), scene.device.updates) == (0, [])
    assert STRANGER.public not in scene.device.read().peers


async def test_an_endpoint_that_the_record_names_stays_where_it_is(scene):
    """Wherever it stands in the record: WireGuard may have learnt what works."""
    scene.take(MANY[0], "192.0.2.1:1")
    await scene.fleet.freshen()
    scene.take(MANY[0], "192.0.2.1:2", "192.0.2.1:1")
    scene.take(MANY[1], "192.0.2.1:3")
    await scene.fleet.freshen()
    assert [set(update) for update in scene.device.updates] == [{MANY[0].public}, {MANY[1].public}]


async def test_a_renewed_record_does_not_have_the_interface_read(scene):
    """Ten thousand peers renew eight records every second, and a reading takes a tenth of one."""
    scene.take(MANY[0], "192.0.2.1:1", age=60)
    await scene.fleet.freshen()
    reads = scene.device.reads
    scene.take(MANY[0], "192.0.2.1:1")
    await scene.fleet.freshen()
    assert scene.device.reads == reads


async def test_records_are_kept_for_the_next_start(scene):
    """A renewed one too, and one of a peer with a session."""
    has_session(scene.device.device)
    for age in (60, 0):
        for key in (MANY[0], LIVE):
            scene.take(key, "192.0.2.1:1", age=age)
        await scene.fleet.freshen()
    kept = [scene.node.state.good(key.public) for key in (MANY[0], LIVE)]
    assert [good.record.issued for good in kept] == [
        scene.fleet.latest[key.public].record.issued for key in (MANY[0], LIVE)
    ]


async def test_what_could_not_be_reached_is_tried_when_our_own_side_has_changed(scene):
    scene.take(MANY[0], "192.168.7.7:7")
    assert await scene.fleet.freshen() == 0
    scene.routed.add(ip_address("192.168.7.7"))
    assert await scene.fleet.freshen() == 0
    scene.fleet.again()
    assert (await scene.fleet.freshen(), scene.endpoints()) == (1, {MANY[0].public: "192.168.7.7:7"})


async def test_freshening_waits_for_the_batch_under_way(scene):
    """`run --once` asks for it beside the task that runs, and ends then."""
    for key in MANY:
        scene.take(key, "192.0.2.1:7")
    first = asyncio.ensure_future(scene.fleet.freshen())
    await asyncio.sleep(0)
    assert (await scene.fleet.freshen(), len(scene.endpoints())) == (0, len(MANY))
    assert await first == len(MANY)


async def test_nothing_is_written_before_our_own_side_is_known(scene):
    scene.ours.ready.clear()
    scene.take(MANY[0], "192.0.2.1:1")
    work = asyncio.ensure_future(scene.fleet.run())
    await asyncio.sleep(0.3)
    assert scene.device.updates == []
    scene.ours.ready.set()
    async with asyncio.timeout(10):
        while not scene.device.updates:
            await asyncio.sleep(0.02)
    work.cancel()


async def test_a_session_looks_at_all_anew_when_our_own_side_has_changed(scene):
    peers = [PrivateKey(number.to_bytes(32)).public for number in range(1, WANTED + 2)]
    heard = []
    session = Session(
        scene.node, scene.device, scene.device.read(), None, None, [], heard.append, heard.append, peers=peers
    )
    monitored = []
    session.fleet.again = lambda: monitored.append(True)
    session.moved()
    session.close()
    assert (monitored, session.tenders) == ([True], {})
