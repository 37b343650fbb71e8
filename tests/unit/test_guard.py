"""A live session is left alone; its endpoint moves only from a path that is dead to one that works."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.attacks.scene import Tunnel
from tests.attacks.virtual import virtually
from tests.unit.records import ALICE, BOB, NOW, candidate, here, record
from wgdisco.audience import Audience
from wgdisco.budget import Budget
from wgdisco.checks import Checker
from wgdisco.connect import UNKNOWN
from wgdisco.device import Change, Peer
from wgdisco.device.port import Arrival, UDPPort
from wgdisco.device.restart import LIVE
from wgdisco.device.routes import Route
from wgdisco.endpoint import Endpoint
from wgdisco.guard import AGAIN, BLIND, HUSH, HYSTERESIS, LOOK, SEARCH, STALL, UNDER_WAY, WITHIN, Guard
from wgdisco.link import Link
from wgdisco.outlook import Ours, Outlook
from wgdisco.policy import Ground
from wgdisco.pulse import Pulse
from wgdisco.search import Finding
from wgdisco.stun import Attribute, Type, decode, encode

US, PRESENT, OTHER, THIRD = (Endpoint.parse(f"192.0.2.{number}:51820") for number in (7, 1, 2, 3))
KEY = Audience.peers(BOB, ALICE.public).check_key()
QUICK = 0.05  # seconds of a round trip


class Wire(UDPPort):
    """A port whose checks reach `alive`, each with the seconds until its answer comes; `asked` is what was checked."""

    def __init__(self, alive: dict[Endpoint, float]) -> None:
        super().__init__(0)
        self.alive, self.asked = alive, []

    def send(self, payload, endpoint, ttl=None, *, source=None) -> None:
        message = decode(payload)
        if message.type is not Type.REQUEST:
            return
        self.asked.append(endpoint)
        if endpoint in self.alive:
            answer = encode(message.answer(Type.SUCCESS, {Attribute.XOR_MAPPED_ADDRESS: US}), KEY)
            arrival = Arrival(endpoint, US.address)
            asyncio.get_running_loop().call_later(self.alive[endpoint], self._dispatch, answer, arrival)


class Session:
    """Bob's live session with Alice, who is at PRESENT and answers checks at `alive`, and the guard before it.

    `said`, `missed` and `doubts` are what the guard calls.
    """

    def __init__(self, alive: dict[Endpoint, float] | None = None, **fields) -> None:
        self.wire, self.said, self.missed, self.doubts, self.issued = Wire(alive or {}), [], [], [], NOW
        usual = {"endpoint": PRESENT, "keepalive": 7, "handshake": time.time(), "rx": 1000, "tx": 1000}
        self.tunnel = Tunnel(BOB, Peer(ALICE.public, **{**usual, **fields}))
        self.link = Link(self.tunnel, None, ALICE.public, lambda _: None)
        ground = Ground(lambda _: Route("eth0", US.address, on_link=False))
        ours = Ours(lambda: ground, tuple, lambda: UNKNOWN, doubt=lambda: self.doubts.append(time.monotonic()))
        ours.ready.set()
        checker = Checker(self.wire, BOB, [ALICE.public], lambda *_: None, budget=Budget(time.monotonic))
        self.outlook = Outlook(self.link, ours, self.said.append, checker)
        self.guard = Guard(self.link, self.outlook, Pulse(), self.said.append, self.missed.append)

    def hear(self, *named: Endpoint, checks: bool = True) -> None:
        """A newer record of hers, that names these."""
        self.issued += 1
        candidates = tuple(candidate(str(each)) for each in named)
        said = record(self.issued, candidates=candidates, hints={"checks": True} if checks else {})
        self.outlook.take(Finding(said, "folder", here(), b""))

    def count(self, rx: int = 0, tx: int = 0) -> None:
        """So much more has come in and gone out."""
        peer = self.tunnel.peer
        self.tunnel.peer = replace(peer, rx=peer.rx + rx, tx=peer.tx + tx)

    async def flow(self, seconds: float) -> None:
        """Something comes in every half second."""
        for _ in range(round(2 * seconds)):
            self.count(rx=100, tx=100)
            await asyncio.sleep(0.5)

    @asynccontextmanager
    async def guarded(self):
        """The guard at work, which has looked once."""
        task = asyncio.ensure_future(self.guard.run())
        await asyncio.sleep(LOOK / 2)
        try:
            async with asyncio.timeout(1000):
                yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    @property
    def moved_to(self) -> Endpoint | None:
        return None if self.tunnel.peer.endpoint == PRESENT else self.tunnel.peer.endpoint


def moved(endpoint: Endpoint | None, keepalive: int = 7) -> list[Change]:
    """Of a session that lives: the endpoint, and something is sent at once."""
    return [Change(ALICE.public, endpoint, 0), Change(ALICE.public, keepalive=keepalive)]


# ---- no reason to doubt


@pytest.mark.parametrize("named", [None, (PRESENT,), (OTHER, PRESENT)], ids=["no record", "named", "named last"])
def test_without_a_reason_nothing_is_checked(named) -> None:
    async def work() -> Session:
        session = Session({OTHER: QUICK})
        async with session.guarded():
            if named is not None:
                session.hear(*named)
            for _ in range(60):
                session.count(tx=1, rx=1)
                await asyncio.sleep(1)
        return session

    session = virtually(work())
    assert (session.wire.asked, session.tunnel.calls, session.doubts) == ([], [], [])


def test_it_ends_with_the_session() -> None:
    async def work() -> float:
        async with Session().guarded() as task:
            await task
        return time.monotonic()

    assert LIVE <= virtually(work()) <= LIVE + LOOK


def test_it_ends_with_the_session_in_the_midst_of_a_check_too() -> None:
    async def work() -> float:
        session = Session(handshake=time.time() - LIVE + 5)
        async with session.guarded() as task:
            session.hear(OTHER)
            await task
        return time.monotonic()

    assert 5 <= virtually(work()) <= 5 + LOOK


def test_a_session_without_an_endpoint_is_left_alone() -> None:
    async def work() -> list:
        session = Session({OTHER: QUICK}, endpoint=None)
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(30)
        return session.tunnel.calls

    assert virtually(work()) == []


# ---- a record that names others


def test_a_path_that_answers_stays_whatever_the_record_names() -> None:
    async def work() -> Session:
        session = Session({PRESENT: QUICK, OTHER: QUICK / 2})
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(60)
        return session

    session = virtually(work())
    assert (set(session.wire.asked), session.tunnel.calls) == ({PRESENT, OTHER}, [])


def test_one_record_is_a_reason_once() -> None:
    async def work() -> list[int]:
        session, counts = Session({PRESENT: QUICK}), []
        async with session.guarded():
            for _ in range(2):
                session.hear(OTHER)
                for _ in range(2):
                    await asyncio.sleep(30)
                    counts.append(session.wire.asked.count(PRESENT))
        return counts

    assert virtually(work()) == [1, 1, 2, 2]


def test_a_path_that_is_dead_is_left_for_one_that_works() -> None:
    async def work() -> Session:
        session = Session({OTHER: QUICK})
        async with session.guarded():
            session.hear(THIRD, OTHER)
            await asyncio.sleep(1)
        return session

    session = virtually(work())
    assert session.tunnel.calls == [moved(OTHER)]
    assert session.guard.moves == 1
    assert session.said == [
        f"its endpoint {PRESENT.short} no longer answers; {OTHER.short} does: moved to {OTHER.short}"
    ]


@pytest.mark.parametrize(("late", "there"), [(-0.01, PRESENT), (0.01, OTHER)])
def test_the_present_path_may_answer_a_little_later_than_another_one(late, there) -> None:
    async def work() -> Endpoint | None:
        session = Session({OTHER: QUICK, PRESENT: QUICK + HYSTERESIS + late})
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(1)
        return session.tunnel.peer.endpoint

    assert virtually(work()) == there


def test_where_wireguard_went_by_itself_it_need_not_be_moved_to() -> None:
    async def work() -> list:
        session = Session({OTHER: UNDER_WAY + 0.5})
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(UNDER_WAY - 0.1)
            session.tunnel.peer = replace(session.tunnel.peer, endpoint=OTHER, rx=2000)
            await asyncio.sleep(10)
        return session.tunnel.calls

    assert virtually(work()) == []


def test_where_nobody_answers_nothing_is_changed() -> None:
    async def work() -> Session:
        session = Session()
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(SEARCH + 2)
            asked = len(session.wire.asked)
            await asyncio.sleep(60)
            assert len(session.wire.asked) == asked, "the search goes on"
        return session

    assert virtually(work()).tunnel.calls == []


def test_a_newer_record_meanwhile_is_checked_at_once() -> None:
    async def work() -> Session:
        session = Session({THIRD: QUICK})
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(2)
            session.hear(THIRD)
            await asyncio.sleep(0.5)
        return session

    assert virtually(work()).moved_to == THIRD


def test_a_candidate_that_must_not_be_tried_is_not_checked() -> None:
    async def work() -> set[Endpoint]:
        session = Session()
        async with session.guarded():
            session.hear(Endpoint.parse("127.0.0.1:7"))
            await asyncio.sleep(30)
        return set(session.wire.asked)

    assert virtually(work()) == {PRESENT}


# ---- what comes in during the check


@pytest.mark.parametrize(
    ("at", "there"), [(UNDER_WAY - 0.1, OTHER), (UNDER_WAY + 0.2, PRESENT)], ids=["under way", "alive"]
)
def test_what_comes_in_shows_that_the_path_lives_unless_it_was_under_way(at, there) -> None:
    async def work() -> Endpoint | None:
        session = Session({OTHER: UNDER_WAY + 0.5})
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(at)
            session.count(rx=100)
            await asyncio.sleep(10)
        return session.tunnel.peer.endpoint

    assert virtually(work()) == there


# ---- doubts


@pytest.mark.parametrize(("sent", "asked"), [(64, False), (65, True)], ids=["keepalives", "more"])
def test_what_was_sent_and_not_answered_for_two_seconds_is_a_doubt(sent, asked) -> None:
    async def work() -> list[bool]:
        session = Session({PRESENT: QUICK})
        async with session.guarded():
            session.hear(PRESENT)
            session.count(tx=sent)
            await asyncio.sleep(STALL - 0.1)
            early = bool(session.wire.asked)
            await asyncio.sleep(LOOK + 0.2)
            return [early, bool(session.wire.asked)]

    assert virtually(work()) == [False, asked]


@pytest.mark.parametrize(("seconds", "asked"), [(1, False), (5, True)], ids=["now and then", "a flow"])
def test_a_flow_that_stops_for_two_seconds_is_a_doubt(seconds, asked) -> None:
    async def work() -> list[bool]:
        session = Session({PRESENT: QUICK})
        async with session.guarded():
            session.hear(PRESENT)
            await session.flow(seconds)
            await asyncio.sleep(HUSH)
            early = bool(session.wire.asked)
            await asyncio.sleep(LOOK)
            return [early, bool(session.wire.asked)]

    assert virtually(work()) == [False, asked]


def test_a_flow_that_ended_on_a_path_that_lives_is_checked_once() -> None:
    async def work() -> int:
        session = Session({PRESENT: QUICK})
        async with session.guarded():
            session.hear(PRESENT)
            await session.flow(5)
            await asyncio.sleep(60)
        return session.wire.asked.count(PRESENT)

    assert virtually(work()) == 1


def test_the_same_doubt_is_a_reason_every_ten_seconds() -> None:
    """As long as somebody sends into a path that answers checks and nothing else."""

    async def work() -> int:
        session = Session({PRESENT: QUICK})
        async with session.guarded():
            session.hear(PRESENT)
            session.count(tx=500)
            await asyncio.sleep(STALL + 3 * AGAIN + 5)
        return session.wire.asked.count(PRESENT)

    assert virtually(work()) == 4


def test_an_authentic_check_from_elsewhere_is_a_doubt() -> None:
    """Where it came from is tried too, be it in no record."""

    async def work() -> Session:
        session = Session({THIRD: QUICK})
        async with session.guarded():
            session.hear(PRESENT)
            session.outlook.hear(THIRD)
            await asyncio.sleep(1)
        return session

    assert virtually(work()).tunnel.calls == [moved(THIRD)]


def test_one_authentic_check_from_elsewhere_is_a_reason_once() -> None:
    async def work() -> int:
        session = Session({PRESENT: QUICK})
        async with session.guarded():
            session.hear(PRESENT)
            session.outlook.hear(THIRD)
            await asyncio.sleep(3 * AGAIN)
        return session.wire.asked.count(PRESENT)

    assert virtually(work()) == 1


def test_an_authentic_check_from_where_it_is_is_none() -> None:
    async def work() -> list[Endpoint]:
        session = Session({PRESENT: QUICK})
        async with session.guarded():
            session.hear(PRESENT)
            session.outlook.hear(PRESENT)
            await asyncio.sleep(30)
        return session.wire.asked

    assert virtually(work()) == []


@pytest.mark.parametrize(("flowed", "doubted"), [(True, True), (False, False)], ids=["flow", "no flow"])
def test_when_nothing_goes_either_way_our_own_end_is_doubted(flowed, doubted) -> None:
    """Of a peer that answers no checks this is all there is to see."""

    async def work() -> bool:
        session = Session()
        async with session.guarded():
            session.hear(PRESENT, checks=False)
            await session.flow(5 if flowed else 0)
            for _ in range(15):
                await asyncio.sleep(1)
                session.count(tx=100)
        return bool(session.doubts)

    assert virtually(work()) is doubted


@pytest.mark.parametrize(("answer", "doubted"), [(WITHIN - 0.1, 0), (WITHIN + 0.2, 1)])
def test_when_no_path_answers_soon_our_own_end_is_doubted(answer, doubted) -> None:
    async def work() -> int:
        session = Session({PRESENT: answer})
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(5)
        return len(session.doubts)

    assert virtually(work()) == doubted


# ---- our own side


def test_after_our_own_move_something_is_sent_at_once_and_again_when_the_path_answers() -> None:
    """Whoever can be reached from our new address learns it from that; the first packet may have come too early."""

    async def work() -> list:
        session, counts = Session({PRESENT: 0.5}), []
        async with session.guarded():
            session.hear(PRESENT)
            session.outlook.move()
            for seconds in (0.1, 1, 30):
                await asyncio.sleep(seconds)
                counts.append(list(session.tunnel.calls))
        return counts

    assert virtually(work()) == [[moved(None)], [moved(None)] * 2, [moved(None)] * 2]


def test_our_own_move_in_the_midst_of_a_check_begins_it_anew() -> None:
    async def work() -> Session:
        session = Session()
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(3)
            session.outlook.move()
            session.wire.alive[OTHER] = QUICK  # from our new address it can be reached
            await asyncio.sleep(0.5)
        return session

    assert virtually(work()).tunnel.calls == [moved(None), moved(OTHER)]


# ---- a peer that answers no checks


@pytest.mark.parametrize(
    ("named", "seconds", "there"),
    [
        ((OTHER, THIRD), BLIND - 1, PRESENT),
        ((OTHER, THIRD), BLIND + 2, OTHER),
        ((OTHER, PRESENT), BLIND + 10, OTHER),
        ((PRESENT,), 60, PRESENT),
        ((), 60, PRESENT),
    ],
    ids=["too early", "dead", "named still", "nothing else", "nowhere else"],
)
def test_it_is_moved_blindly_when_nothing_has_come_back_for_long(named, seconds, there) -> None:
    async def work() -> Session:
        session = Session()
        async with session.guarded():
            session.hear(*named, checks=False)
            session.count(tx=500)
            await asyncio.sleep(seconds)
        return session

    session = virtually(work())
    assert (session.tunnel.peer.endpoint, session.wire.asked) == (there, [])


def test_it_is_not_moved_while_something_comes_back() -> None:
    async def work() -> list:
        session = Session()
        async with session.guarded():
            session.hear(OTHER, checks=False)
            await session.flow(60)
        return session.tunnel.calls

    assert virtually(work()) == []


def test_it_goes_round_while_nothing_comes_back_from_anywhere() -> None:
    """The endpoint that was there before us takes its turn: the record may be wrong, or the other side just away."""

    async def work() -> Session:
        session = Session()
        async with session.guarded():
            session.hear(OTHER, THIRD, checks=False)
            session.count(tx=500)
            await asyncio.sleep(BLIND + 45)
        return session

    session = virtually(work())
    ring = [OTHER, THIRD, PRESENT]
    assert session.tunnel.calls[:5] == [moved(each) for each in (ring * 2)[:5]]
    assert session.guard.moves == len(session.tunnel.calls) < 7
    assert session.said[0] == f"nothing has come back from {PRESENT.short} for 15 s: moved to {OTHER.short}"


# ---- asking for a newer record


def test_a_peer_that_answers_nowhere_is_missing_until_something_comes_in() -> None:
    async def work() -> list[list[bool]]:
        session, told = Session(), []
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(5)
            told.append(list(session.missed))
            session.count(rx=100)
            await asyncio.sleep(5)
            return [*told, list(session.missed)]

    assert virtually(work()) == [[True], [True, False]]


@pytest.mark.parametrize("where", [PRESENT, OTHER], ids=["here", "elsewhere"])
def test_a_peer_that_answers_in_the_end_is_missing_no_longer(where) -> None:
    """Or it would not be asked for when it goes missing again."""

    async def work() -> list[bool]:
        session = Session({where: WITHIN + 0.2})
        async with session.guarded():
            session.hear(OTHER)
            await asyncio.sleep(5)
            return list(session.missed)

    assert virtually(work()) == [True, False]


def test_when_the_session_is_over_the_guard_misses_nobody() -> None:
    """Whoever wants the peer then says so anew, and it is asked for as often as at first."""

    async def work() -> list[bool]:
        session = Session()
        async with session.guarded() as task:
            session.hear(OTHER)
            await task
        return session.missed

    assert virtually(work()) == [True, False]


# ---- the end


def test_cancelled_in_the_midst_of_a_check_it_changes_nothing_and_checks_no_more() -> None:
    async def work() -> tuple:
        session = Session({OTHER: 2.0})
        async with session.guarded() as task:
            session.hear(OTHER)
            await asyncio.sleep(1)
        asked = len(session.wire.asked)
        await asyncio.sleep(30)
        return task.cancelled(), asked > 0, len(session.wire.asked) - asked, session.tunnel.calls

    assert virtually(work()) == (True, True, 0, [])
