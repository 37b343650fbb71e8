"""Attacks on the agent itself: plugins that would end it, peers that would have it flood, users it must not overrule."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest

from tests.attacks.scene import Tunnel
from tests.attacks.virtual import virtually
from tests.unit.records import ALICE, BOB
from wgdisco.backend import Backend, Slot
from wgdisco.budget import HOST, PEER, Budget
from wgdisco.checks import Checker, Prober
from wgdisco.connect import Attempt
from wgdisco.device import Interface, LiveSession, Peer, is_live
from wgdisco.device.port import UDPPort
from wgdisco.endpoint import Endpoint
from wgdisco.errors import StoreError
from wgdisco.keys import PrivateKey
from wgdisco.link import GIVEN, Link
from wgdisco.sources import gather
from wgdisco.store import Store

SLOT = Slot(b"s" * 20, "s" * 32, b"p" * 32)


# ---- plugins


class Blunt(Backend):
    """A plugin whose calls are no coroutines, and end the process that makes them."""

    name = "blunt"

    def __init__(self, call: str) -> None:
        async def nothing(*_) -> None:
            return None

        for name in ("open", "put", "remove", "close"):
            setattr(self, name, self.end if name == call else nothing)
        if call in ("fetch", "follow"):
            setattr(self, call, self.end)

    def end(self, *_):
        sys.exit(3)


@pytest.mark.parametrize("call", ["open", "put", "remove", "close", "fetch", "follow"])
async def test_a_plugin_that_exits_in_a_plain_call_ends_nothing(call) -> None:
    store = Store(Blunt(call))
    works = [store.put(SLOT, b"x", 60), store.remove(SLOT), drained(store.fetch([SLOT])), drained(store.follow([SLOT]))]
    errors = [str(each) for each in await asyncio.gather(*works, return_exceptions=True) if each is not None]
    await store.close()
    if call != "close":
        assert "blunt: the plugin raised SystemExit" in errors


@pytest.mark.parametrize("answer", [7, (SLOT,), (SLOT, None), (SLOT, 7)], ids=repr)
async def test_what_is_no_answer_is_the_stores_error(answer) -> None:
    """Raised elsewhere it would be a bug of ours, and hide what the other stores said."""

    class Odd(Backend):
        name = "odd"

        async def fetch(self, slots):
            yield answer

    with pytest.raises(StoreError, match=r"^odd: "):
        await drained(Store(Odd()).fetch([SLOT]))


async def drained(answers) -> None:
    async for _ in answers:
        pass


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()], ids=repr)
async def test_a_source_that_exits_ends_nothing_and_hides_no_other(error) -> None:
    class Exits:
        name = "exits"

        async def find(self, deadline):
            raise error

    class Plain(Exits):
        def find(self, deadline):
            raise error

    where = await gather([Exits(), Plain()])
    assert len(where.problems) == 2
    assert all(each.startswith("exits: ") for each in where.problems)


# ---- what the user sets while the agent works


FIRST, SECOND, USERS = (Endpoint.parse(f"192.0.2.{number}:51820") for number in (1, 2, 3))


def linked(**fields):
    tunnel = Tunnel(BOB, Peer(ALICE.public, **fields))
    return tunnel, Link(tunnel, None, ALICE.public, lambda _: None)


def test_an_endpoint_that_the_user_sets_meanwhile_gets_its_time(monkeypatch) -> None:
    tunnel, link = linked(endpoint=SECOND)
    link.fire(FIRST)
    tunnel.peer = replace(tunnel.peer, endpoint=USERS)
    link.fire(FIRST)
    assert tunnel.peer.endpoint == USERS
    later = time.monotonic() + GIVEN
    monkeypatch.setattr("wgdisco.link.time.monotonic", lambda: later)
    link.fire(SECOND)
    assert tunnel.peer.endpoint == SECOND


def test_an_endpoint_that_wireguard_learnt_is_no_wish() -> None:
    """Something authentic came from there; the first try leaves that alone, the next one goes on."""
    tunnel, link = linked(endpoint=SECOND)
    link.fire(FIRST)
    tunnel.peer = replace(tunnel.peer, endpoint=USERS, rx=148)
    link.fire(FIRST)
    assert tunnel.peer.endpoint == USERS
    link.fire(FIRST)
    assert tunnel.peer.endpoint == FIRST


@pytest.mark.parametrize("tried", [True, False], ids=["while it tries", "while it waits"])
def test_stopping_does_not_take_back_an_endpoint_that_the_user_set(tried: bool) -> None:
    tunnel, link = linked(endpoint=SECOND)
    if tried:
        link.fire(FIRST)
    tunnel.peer = replace(tunnel.peer, endpoint=USERS)
    link.restore()
    assert (tunnel.peer.endpoint, tunnel.peer.keepalive) == (USERS, 0)


@pytest.mark.parametrize("wish", [7, 60])
def test_a_keepalive_that_the_user_sets_while_it_tries_stays(wish: int) -> None:
    tunnel, link = linked(endpoint=SECOND, keepalive=5)
    link.fire(FIRST)
    tunnel.peer = replace(tunnel.peer, keepalive=wish)
    link.fire(SECOND)
    link.settle()
    assert tunnel.peer.keepalive == wish
    link.restore()
    assert tunnel.peer.keepalive == wish


# ---- old readings


class Stale(Tunnel):
    """Shows an old reading, as a shared one may be; whoever restarts a peer reads anew."""

    shown: Peer | None = None

    def read(self) -> Interface:
        now = super().read()
        return now if self.shown is None else replace(now, peers={self.shown.key: self.shown})

    def restart_peer(self, key, endpoint, keepalive, *, since=None) -> None:
        self.shown = None
        if is_live(self.peer, since, time.time()):
            raise LiveSession("it lives")
        super().restart_peer(key, endpoint, keepalive)


def test_an_initiation_that_came_in_since_the_last_reading_is_not_thrown_away() -> None:
    """Its sender has no handshake to show yet: a restart would forget what is being answered."""
    tunnel = Stale(BOB, Peer(ALICE.public, endpoint=SECOND, keepalive=7))
    link = Link(tunnel, None, ALICE.public, lambda _: None)
    tunnel.shown, tunnel.peer = tunnel.peer, replace(tunnel.peer, rx=148)
    link.fire(FIRST)
    assert tunnel.calls == []
    link.settle()
    assert tunnel.peer.keepalive == 7


# ---- a record or a check that names a victim (T17)


class Wire(UDPPort):
    """A port whose datagrams are counted instead of sent."""

    def __init__(self) -> None:
        super().__init__(0)
        self.sent: Counter = Counter()

    def send(self, payload, endpoint, ttl=None, *, source=None) -> None:
        self.sent[endpoint.address] += 1


VICTIM = ip_address("192.0.2.66")


def ports_of(address, number: int = 16) -> list[Endpoint]:
    return [Endpoint(address, 1000 + each) for each in range(number)]


def test_a_record_renewed_again_and_again_has_its_victim_flooded_by_nobody() -> None:
    """Each new record ends every back-off: forty of them, of sixteen ports each, within forty seconds."""

    async def attack() -> int:
        wire, budget = Wire(), Budget(asyncio.get_running_loop().time)
        checker = Checker(wire, BOB, [ALICE.public], lambda *_: None, budget=budget)
        tunnel = Tunnel(BOB, Peer(ALICE.public, endpoint=SECOND))
        link = Link(tunnel, wire, ALICE.public, lambda _: None, budget=budget)
        for _ in range(40):
            prober = Prober(checker, ALICE.public)
            trying = asyncio.ensure_future(Attempt(link, ports_of(VICTIM), initiate=True, prober=prober).run())
            await asyncio.sleep(1)
            trying.cancel()
            await asyncio.gather(trying, return_exceptions=True)
            await prober.close()
        return wire.sent[VICTIM] + len(tunnel.calls)

    sent = virtually(attack())
    assert PEER[1] <= sent <= PEER[1] + 40 * PEER[0]


def test_many_peers_that_name_one_victim_share_its_budget() -> None:
    peers = [PrivateKey(bytes([number]) * 32).public for number in range(1, 31)]

    async def attack() -> int:
        wire, budget = Wire(), Budget(asyncio.get_running_loop().time)
        checker = Checker(wire, BOB, peers, lambda *_: None, budget=budget)
        probers = [Prober(checker, peer) for peer in peers]
        for prober in probers:
            prober.add(ports_of(VICTIM))
        await asyncio.sleep(10)
        await asyncio.gather(*(prober.close() for prober in probers))
        return wire.sent[VICTIM]

    assert HOST[1] <= virtually(attack()) <= HOST[1] + 10 * HOST[0]


def test_checks_from_ever_new_addresses_are_not_multiplied() -> None:
    """A peer that forges where its checks come from: each one heard would have us send five to a stranger."""

    async def attack() -> tuple[int, int]:
        wire = Wire()
        checker = Checker(wire, BOB, [ALICE.public], lambda *_: None, budget=Budget(asyncio.get_running_loop().time))
        prober = Prober(checker, ALICE.public)
        for number in range(600):
            prober.hear(Endpoint(ip_address(2**24 + number), 51820))
            await asyncio.sleep(0.05)
        tasks = len(asyncio.all_tasks())
        await prober.close()
        return wire.sent.total(), tasks

    sent, tasks = virtually(attack())
    assert sent <= PEER[1] + 30 * PEER[0]
    assert tasks < 20


async def test_a_path_that_answers_costs_nothing() -> None:
    """Or a peer that is met again and again would use up what it may have."""
    async with UDPPort(0) as one, UDPPort(0) as other:
        budget = Budget()
        checker = Checker(one, BOB, [ALICE.public], lambda *_: None, budget=budget)
        Checker(other, ALICE, [BOB.public], lambda *_: None)
        there = Endpoint(ip_address("127.0.0.1"), other.port)
        assert await checker.check(ALICE.public, there)
        assert budget.take(ALICE.public, there.address, 10_000) == PEER[1]


def test_a_record_without_anything_to_try_costs_a_look_a_second() -> None:
    """Five hundred such peers would else look at the interface ten thousand times a second."""

    async def attack() -> int:
        tunnel, looks = Tunnel(BOB, Peer(ALICE.public)), []
        link, read = Link(tunnel, None, ALICE.public, lambda _: None), tunnel.read
        tunnel.read = lambda: looks.append(1) or read()
        trying = asyncio.ensure_future(Attempt(link, [], initiate=True).run())
        await asyncio.sleep(60)
        trying.cancel()
        await asyncio.gather(trying, return_exceptions=True)
        return len(looks)

    assert 30 < virtually(attack()) <= 70
