"""One peer is kept reachable: searched, connected, settled, guarded; and left as it was where nothing came of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.attacks.scene import Scene, Tunnel
from tests.attacks.virtual import virtually
from tests.unit.records import ALICE, BOB, MALLORY, NOW, candidate, here, record, sealed
from wgdisco.connect import UNKNOWN
from wgdisco.device import Peer
from wgdisco.device.restart import LIVE
from wgdisco.device.routes import Route
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError
from wgdisco.guard import LOOK
from wgdisco.link import Link
from wgdisco.outlook import Ours
from wgdisco.policy import Ground
from wgdisco.search import Finding
from wgdisco.tend import Tender

FIRST, SECOND, THIRD = (Endpoint.parse(f"192.0.2.{number}:51820") for number in (1, 2, 3))
LOW, HIGH = sorted([ALICE, BOB], key=lambda private: private.public)
LONG_AGO = 1000.0  # seconds since a handshake whose session is over


class Tended:
    """A peer on a tunnel that shakes hands at `answers`, and its tender; `said` and `missed` are what that calls.

    The smaller key is ours, so that we start, unless `own` says otherwise.
    """

    def __init__(self, folder, *answers: Endpoint, own=LOW, behind_nat: bool = True, **fields) -> None:
        self.own, self.other = own, HIGH if own is LOW else LOW
        self.said, self.missed, self.issued = [], [], NOW
        self.tunnel = Tunnel(self.own, Peer(self.other.public, **fields), *answers)
        self.scene = Scene(folder)
        self.node = self.scene.node(self.own)
        ground = Ground(lambda _: Route("eth0", FIRST.address, on_link=False))
        self.ours = Ours(lambda: ground, tuple, lambda: UNKNOWN, behind_nat=lambda: behind_nat)
        self.ours.ready.set()
        link = Link(self.tunnel, None, self.other.public, lambda _: None)
        self.tender = Tender(self.node, link, self.ours, self.said.append, missing=self.missed.append)

    def hear(self, *named: Endpoint) -> None:
        """A newer record of the peer's, that names these."""
        self.issued += 1000
        said = record(self.issued, subject=self.other, candidates=tuple(candidate(str(each)) for each in named))
        place = here(subject=self.other)
        self.tender.outlook.take(Finding(said, "folder", place, sealed(said, place, self.other)))

    def shake(self, **fields) -> None:
        """A handshake came about."""
        self.tunnel.peer = replace(self.tunnel.peer, handshake=time.time(), **fields)

    @asynccontextmanager
    async def working(self, work):
        task = asyncio.ensure_future(work)
        await asyncio.sleep(0.1)
        try:
            async with asyncio.timeout(3600):
                yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self.scene.close()
        if not task.cancelled():
            task.result()

    def connecting(self):
        return self.working(self.tender.connect())

    def kept(self):
        return self.working(self.tender.keep())

    @property
    def found(self) -> int:
        """How many plans were made."""
        return sum(each.startswith("found its record") for each in self.said)


# ---- connect


def test_the_other_side_may_come_first(tmp_path) -> None:
    """Then there was no record, and no time to count."""

    async def work() -> tuple:
        tended = Tended(tmp_path)
        async with tended.connecting() as task:
            tended.shake(endpoint=FIRST)
            return await task, tended.tunnel.calls

    assert virtually(work()) == (0.0, [])


def test_the_time_counts_from_the_record(tmp_path) -> None:
    async def work() -> float:
        tended = Tended(tmp_path)
        async with tended.connecting() as task:
            await asyncio.sleep(100)
            tended.hear(FIRST)
            await asyncio.sleep(5)
            tended.shake()
            return await task

    assert 5 <= virtually(work()) <= 5 + LOOK


def test_it_tries_what_the_record_names_and_says_so(tmp_path) -> None:
    async def work() -> Tended:
        tended = Tended(tmp_path, SECOND)
        async with tended.connecting() as task:
            assert (tended.tender.state, tended.tender.tried, tended.tender.fired) == ("searching", [], 0)
            tended.scene.clock.now = NOW + 13_000
            tended.hear(FIRST, SECOND)
            await asyncio.sleep(0.1)
            assert (tended.tender.state, tended.tender.tried) == ("connecting", [FIRST, SECOND])
            await task
        return tended

    tended = virtually(work())
    assert tended.said[:2] == [
        f"found its record (12 s old): {FIRST.short}, {SECOND.short}",
        "we start the handshake",
    ]
    assert tended.tunnel.peer.endpoint == SECOND


def test_the_side_with_the_larger_key_lets_the_other_one_start(tmp_path) -> None:
    async def work() -> tuple:
        tended = Tended(tmp_path, own=HIGH)
        async with tended.connecting():
            tended.hear(FIRST)
            await asyncio.sleep(1)
            return tended.said[-1], tended.tunnel.calls

    assert virtually(work()) == ("the other side starts the handshake, we open our NAT", [])


def test_a_record_that_names_nothing_is_nothing_to_try(tmp_path) -> None:
    async def work() -> tuple:
        tended = Tended(tmp_path)
        async with tended.connecting():
            tended.hear()
            await asyncio.sleep(30)
            return tended.said[0].partition("old)")[2], tended.tender.fired, tended.tunnel.calls

    assert virtually(work()) == (": nothing to try", 0, [])


def test_nothing_is_tried_before_we_know_where_we_are(tmp_path) -> None:
    async def work() -> list[bool]:
        tended = Tended(tmp_path)
        tended.ours.ready.clear()
        tried = []
        async with tended.connecting():
            tended.hear(FIRST)
            await asyncio.sleep(30)
            tried.append(bool(tended.tunnel.calls))
            tended.ours.ready.set()
            await asyncio.sleep(1)
            return [*tried, bool(tended.tunnel.calls)]

    assert virtually(work()) == [False, True]


def test_another_record_replaces_the_plan(tmp_path) -> None:
    async def work() -> Tended:
        tended = Tended(tmp_path)
        async with tended.connecting():
            tended.hear(FIRST)
            await asyncio.sleep(30)
            tended.tunnel.calls.clear()
            tended.hear(SECOND)
            await asyncio.sleep(30)
        return tended

    tended = virtually(work())
    assert tended.found == 2
    assert ("restart", SECOND, 25) in tended.tunnel.calls
    assert ("restart", FIRST, 25) not in tended.tunnel.calls


@pytest.mark.parametrize(("seconds", "plans"), [(1.0, 1), (60.0, 2)], ids=["just begun", "long tried"])
def test_the_same_said_anew_ends_a_back_off_and_no_beginning(tmp_path, seconds, plans) -> None:
    """A peer that renews its record is there; but two rounds of trying are not interrupted."""

    async def work() -> int:
        tended = Tended(tmp_path)
        async with tended.connecting():
            tended.hear(FIRST)
            await asyncio.sleep(seconds)
            tended.hear(FIRST)
            await asyncio.sleep(2)
        return tended.found

    assert virtually(work()) == plans


def test_our_own_move_begins_anew_with_the_same_record(tmp_path) -> None:
    async def work() -> Tended:
        tended = Tended(tmp_path)
        async with tended.connecting():
            tended.hear(FIRST)
            await asyncio.sleep(1)
            tended.tender.outlook.move()
            await asyncio.sleep(30)
        return tended

    tended = virtually(work())
    assert (tended.found, tended.tender.outlook.moved) == (2, False)


def test_the_record_is_kept_for_the_next_start(tmp_path) -> None:
    async def work() -> int:
        tended = Tended(tmp_path)
        async with tended.connecting():
            tended.hear(FIRST)
            await asyncio.sleep(1)
            return tended.node.state.good(tended.other.public).record.issued

    assert virtually(work()) == NOW + 1000


@pytest.mark.parametrize("cancelled", [False, True], ids=["connected", "cancelled"])
def test_the_peer_is_missing_for_as_long_as_it_takes(tmp_path, cancelled) -> None:
    async def work() -> list[list[bool]]:
        tended = Tended(tmp_path)
        async with tended.connecting() as task:
            before = list(tended.missed)
            if not cancelled:
                tended.shake()
                await task
        return [before, tended.missed]

    assert virtually(work()) == [[True], [True, False]]


def test_what_the_interface_refuses_is_raised(tmp_path) -> None:
    """And not lost in the task that tries."""

    async def work() -> None:
        tended = Tended(tmp_path)

        def refuse(_changes) -> None:
            raise AccessError("not permitted")

        tended.tunnel.update = refuse
        async with tended.connecting() as task:
            tended.hear(FIRST)
            await task

    with pytest.raises(AccessError, match="not permitted"):
        virtually(work())


def test_cancelled_it_tries_no_more(tmp_path) -> None:
    async def work() -> list:
        tended = Tended(tmp_path)
        async with tended.connecting():
            tended.hear(FIRST)
            await asyncio.sleep(3)
        tended.tunnel.calls.clear()
        await asyncio.sleep(60)
        return [*tended.tunnel.calls, *(asyncio.all_tasks() - {asyncio.current_task()})]

    assert virtually(work()) == []


# ---- keep


def test_a_session_that_lives_is_guarded_and_left_alone(tmp_path) -> None:
    async def work() -> tuple:
        tended = Tended(tmp_path, endpoint=FIRST, handshake=time.time(), keepalive=7)
        async with tended.kept():
            tended.hear(SECOND)
            await asyncio.sleep(60)
            return tended.tender.state, tended.tunnel.calls, list(tended.missed)

    assert virtually(work()) == ("connected", [], [])


def test_a_session_that_ends_is_connected_again(tmp_path) -> None:
    async def work() -> list[str]:
        tended, states = Tended(tmp_path, FIRST, endpoint=SECOND, handshake=time.time(), keepalive=7), []
        async with tended.kept():
            for seconds in (LIVE - 5, 10):
                await asyncio.sleep(seconds)
                states.append(tended.tender.state)
            tended.hear(FIRST)
            await asyncio.sleep(10)
            return [*states, tended.tender.state, str(tended.tunnel.peer.endpoint)]

    assert virtually(work()) == ["connected", "searching", "connected", str(FIRST)]


def test_the_next_time_it_tries_the_same_record_anew(tmp_path) -> None:
    """And waits for another handshake than the last one."""

    async def work() -> tuple:
        tended = Tended(tmp_path, FIRST)
        tended.hear(FIRST)
        async with tended.kept():
            await asyncio.sleep(10)
            tended.tunnel.answers = ()
            tended.tunnel.calls.clear()
            await asyncio.sleep(LIVE)
            return tended.tender.state, tended.tender.connects, tended.found, bool(tended.tunnel.calls)

    assert virtually(work()) == ("connecting", 1, 2, True)


@pytest.mark.parametrize(
    ("fields", "named", "state"),
    [
        ({}, None, "idle"),
        ({}, (FIRST, SECOND), "idle"),
        ({}, (SECOND,), "connecting"),
        ({"keepalive": 25}, (FIRST,), "connecting"),
        ({"handshake": 0.0}, (FIRST,), "connecting"),
        ({"endpoint": None}, None, "searching"),
    ],
    ids=["no record", "named", "named no longer", "keepalive", "no handshake ever", "no endpoint"],
)
def test_a_peer_to_whom_nobody_has_anything_to_say_is_idle(tmp_path, fields, named, state) -> None:
    async def work() -> tuple:
        peer = {"endpoint": FIRST, "handshake": time.time() - LONG_AGO, **fields}
        tended = Tended(tmp_path, **peer)
        if named is not None:
            tended.hear(*named)
        async with tended.kept():
            await asyncio.sleep(2)
            return tended.tender.state, bool(tended.tunnel.calls)

    assert virtually(work()) == (state, state == "connecting")


@pytest.mark.parametrize("reason", ["sent", "moved"])
def test_what_ends_its_rest(tmp_path, reason) -> None:
    """Something was sent and is not answered, or our own addresses changed."""

    async def work() -> list[str]:
        tended = Tended(tmp_path, endpoint=FIRST, handshake=time.time() - LONG_AGO)
        tended.hear(FIRST)
        async with tended.kept():
            await asyncio.sleep(10)
            states = [tended.tender.state]
            if reason == "sent":
                tended.tunnel.peer = replace(tended.tunnel.peer, tx=148)
            else:
                tended.tender.outlook.move()
            await asyncio.sleep(3)
            return [*states, tended.tender.state]

    assert virtually(work()) == ["idle", "connecting"]


@pytest.mark.parametrize(
    ("keepalive", "behind_nat", "settled"),
    [(0, True, 25), (0, False, 0), (7, True, 7), (7, False, 7)],
)
def test_after_the_handshake_the_keepalive_is_the_users_or_what_a_nat_needs(
    tmp_path, keepalive, behind_nat, settled
) -> None:
    async def work() -> Tended:
        tended = Tended(tmp_path, FIRST, keepalive=keepalive, behind_nat=behind_nat)
        tended.hear(FIRST)
        async with tended.kept():
            await asyncio.sleep(5)
        return tended

    tended = virtually(work())
    assert tended.tunnel.peer.keepalive == settled
    assert (tended.tender.connects, tended.tender.outlook.worked) == (1, FIRST)
    assert tended.said[-1] == f"connected at {FIRST.short}"


def test_a_peer_that_is_found_nowhere_is_none_of_our_business(tmp_path) -> None:
    """It comes and goes as the user set it up."""

    async def work() -> tuple:
        tended = Tended(tmp_path)
        async with tended.kept():
            tended.shake(endpoint=FIRST)
            await asyncio.sleep(5)
            return tended.tender.state, tended.tender.connects, tended.tunnel.calls, tended.said

    assert virtually(work()) == ("connected", 0, [], [])


def test_the_record_that_connected_is_no_reason_to_check_the_path(tmp_path) -> None:
    """Where a session came about at an endpoint that the record does not name, it may stay."""

    async def work() -> bool:
        tended = Tended(tmp_path)
        async with tended.kept():
            tended.hear(SECOND)
            await asyncio.sleep(1)
            tended.shake(endpoint=THIRD)
            await asyncio.sleep(5)
            return tended.tender.guard.examined is tended.tender.outlook.latest

    assert virtually(work())


@pytest.mark.parametrize("fields", [{}, {"endpoint": THIRD, "keepalive": 7}], ids=["new", "set up"])
def test_cancelled_while_it_tries_it_leaves_the_peer_as_it_was(tmp_path, fields) -> None:
    async def work() -> tuple:
        tended = Tended(tmp_path, **fields)
        before = tended.tunnel.peer
        async with tended.kept():
            tended.hear(FIRST)
            await asyncio.sleep(0.5)
            tried = tended.tunnel.peer.endpoint
        return tried, before, tended.tunnel.peer

    tried, before, after = virtually(work())
    assert tried == FIRST
    assert after.keepalive == before.keepalive
    assert after.endpoint == before.endpoint or before.endpoint is None  # an endpoint cannot be taken away


def test_cancelled_when_it_is_connected_it_takes_nothing_back(tmp_path) -> None:
    async def work() -> tuple:
        tended = Tended(tmp_path, FIRST, endpoint=THIRD)
        tended.hear(FIRST)
        async with tended.kept():
            await asyncio.sleep(10)
            before = tended.tunnel.peer, len(tended.tunnel.calls)
        return before, (tended.tunnel.peer, len(tended.tunnel.calls))

    before, after = virtually(work())
    assert before == after
    assert after[0].endpoint == FIRST


def test_cancelled_at_the_very_handshake_it_takes_nothing_back(tmp_path) -> None:
    """Nobody has looked yet."""

    async def work() -> Endpoint | None:
        tended = Tended(tmp_path, endpoint=THIRD)
        tended.hear(FIRST)
        async with tended.kept():
            await asyncio.sleep(0.5)
            assert tended.tunnel.peer.endpoint == FIRST
            tended.shake()
        return tended.tunnel.peer.endpoint

    assert virtually(work()) == FIRST


def test_a_peer_that_was_removed_is_an_error_that_says_what_to_do(tmp_path) -> None:
    async def work() -> None:
        tended = Tended(tmp_path)
        async with tended.kept() as task:
            tended.tunnel.peer = Peer(MALLORY.public)
            await task

    with pytest.raises(AccessError, match="no longer has the peer"):
        virtually(work())


def test_the_state_has_begun_when_it_changed_last(tmp_path) -> None:
    async def work() -> float:
        tended = Tended(tmp_path)
        start = time.time()
        async with tended.kept():
            await asyncio.sleep(30)
            tended.hear(FIRST)
            await asyncio.sleep(60)
            tended.hear(SECOND)
            await asyncio.sleep(5)
            return tended.tender.since - start

    assert 30 <= virtually(work()) <= 30 + 2 * LOOK
