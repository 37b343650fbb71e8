"""What the announcer makes of looks that differ: what is published, and how soon it looks again."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from wgdisco.announce import Announcer
from wgdisco.audience import Scope
from wgdisco.backends.memory import Memory
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PrivateKey
from wgdisco.node import Node
from wgdisco.record import Kind
from wgdisco.sources import Behaviour, Found, Nat, Where
from wgdisco.state import State
from wgdisco.store import Store

ALICE, BOB = PrivateKey(b"a" * 32), PrivateKey(b"b" * 32)
UNKNOWN, DEPENDENT = Behaviour.UNKNOWN, Behaviour.ADDRESS_DEPENDENT
NAT = Nat(Behaviour.ENDPOINT_INDEPENDENT, Behaviour.ADDRESS_DEPENDENT, True)
SYMMETRIC = Nat(DEPENDENT, UNKNOWN, True)
HOUR = 3_600_000


class Clock:
    now = 1_795_233_600_000

    def __call__(self) -> int:
        return self.now


def look(*seen: str, nat: Nat | None = None) -> Where:
    """One address of ours, and where servers see us."""
    own = Found(Endpoint.parse("192.168.1.5:51820"), Kind.HOST, "interface", "eth0")
    outside = [Found(Endpoint.parse(each), Kind.SERVER_REFLEXIVE, "stun") for each in seen]
    return Where([own, *outside], nat or Nat(), asked=True)


class Looks:
    """Sources that say one thing after the other, the last one for ever; `thorough` is how each look was made."""

    def __init__(self, *looks: Where) -> None:
        self.looks, self.thorough = list(looks), []
        self.changes = 0

    async def __call__(self, thorough: bool) -> Where:
        self.thorough.append(thorough)
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def node(tmp_path):
    opened = Node(
        [Store(Memory(room=uuid4().hex))], State.open(ALICE.public, tmp_path), ALICE, lifetime=3600, clock=Clock()
    )
    yield opened
    await opened.close()


def announcing(node: Node, looks: Looks) -> Announcer:
    made = Announcer(node, looks, node.readers(Scope.PEERS, [BOB.public]), lambda _: None)
    made.changed = looks.changed
    return made


async def told(announcer: Announcer, number: int) -> list[str]:
    """What the record names after so many looks."""
    for _ in range(number):
        await announcer.once()
    return sorted(str(each.endpoint) for each in announcer.candidates)


async def test_servers_that_are_silent_for_a_look_change_no_record(node):
    looks = Looks(look("203.0.113.1:7", nat=NAT), look())
    announcer = announcing(node, looks)
    assert await told(announcer, 3) == ["192.168.1.5:51820", "203.0.113.1:7"]
    assert (announcer.publishes, looks.changes, announcer.where.nat) == (1, 0, NAT)


async def test_other_ports_of_a_symmetric_nat_are_not_published_before_the_record_is_due(node):
    looks = Looks(
        look("203.0.113.1:7", "203.0.113.1:8", nat=SYMMETRIC),
        look("203.0.113.1:9", nat=Nat(UNKNOWN, UNKNOWN, True)),
        look("203.0.113.1:5", "203.0.113.1:6", nat=SYMMETRIC),
    )
    announcer = announcing(node, looks)
    assert await told(announcer, 4) == ["192.168.1.5:51820", "203.0.113.1:7", "203.0.113.1:8"]
    assert announcer.publishes == 1
    node.clock.now += HOUR // 3
    assert await told(announcer, 1) == ["192.168.1.5:51820", "203.0.113.1:5", "203.0.113.1:6"]
    assert (announcer.publishes, looks.changes) == (2, 0)


async def test_another_address_of_a_symmetric_nat_is_published(node):
    looks = Looks(look("203.0.113.1:7", nat=SYMMETRIC), look("203.0.113.2:7", nat=SYMMETRIC))
    announcer = announcing(node, looks)
    assert await told(announcer, 2) == ["192.168.1.5:51820", "203.0.113.2:7"]
    assert (announcer.publishes, looks.changes) == (2, 1)


async def test_a_verdict_alone_is_published_and_doubts_no_path(node):
    looks = Looks(look("203.0.113.1:7", nat=Nat(UNKNOWN, UNKNOWN, True)), look("203.0.113.1:7", nat=NAT))
    announcer = announcing(node, looks)
    await told(announcer, 2)
    assert (announcer.publishes, looks.changes) == (2, 0)


async def test_who_was_seen_by_nobody_looks_again_soon_and_measures_the_nat_then(node, monkeypatch):
    looks = Looks(look(), look(), look(), look("203.0.113.1:7", nat=NAT))
    announcer = announcing(node, looks)
    slept = []

    async def wait(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 5:
            await asyncio.Event().wait()

    monkeypatch.setattr("wgdisco.announce.SOON", 0.0)
    monkeypatch.setattr(announcer, "_wait", wait)
    running = asyncio.ensure_future(announcer.run())
    async with asyncio.timeout(20):
        while len(slept) < 5:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert slept == [1.0, 2.0, 4.0, 20.0, 20.0]
    assert looks.thorough == [False, False, False, False, True, False]


async def test_without_an_endpoint_nothing_is_published_and_that_is_said_once(node):
    """An empty record is a good-bye, and the last one with endpoints is better than none."""
    said, looks = [], Looks(Where(), Where(), look(), Where())
    announcer = Announcer(node, looks, node.readers(Scope.PEERS, [BOB.public]), said.append)
    for _ in range(2):
        assert not (await announcer.once()).stored
    assert announcer.told.is_set()
    assert (announcer.publishes, len(said), "wgdisco endpoints" in said[0]) == (0, 1, True)
    first = await announcer.once()
    assert first.stored
    assert await announcer.once() is first
    assert announcer.publishes == 1
