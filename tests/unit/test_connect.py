"""Who starts, what is tried in which order, and what is done to a peer on the way to a handshake."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from ipaddress import ip_address

import pytest

from wgdisco.connect import Attempt, impossible, initiates, order, silence
from wgdisco.device import Change, Interface, Peer
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PrivateKey
from wgdisco.link import Link
from wgdisco.record import Candidate, Kind

LOW, HIGH = sorted([PrivateKey(b"a" * 32).public, PrivateKey(b"b" * 32).public])
CONE = ("endpoint-independent", "address-and-port-dependent")
FULL_CONE = ("endpoint-independent", "endpoint-independent")
SYMMETRIC = ("address-and-port-dependent", "address-and-port-dependent")
UNKNOWN = ("unknown", "unknown")
FIRST, SECOND, THIRD = (Endpoint(ip_address(f"192.0.2.{number}"), 51820) for number in (1, 2, 3))


def candidate(text: str, kind: Kind = Kind.SERVER_REFLEXIVE) -> Candidate:
    return Candidate(kind, Endpoint.parse(text))


class Tunnel:
    """A device of one peer that writes down what is asked of it; `answers` endpoints complete the handshake."""

    name = "wg9"

    def __init__(self, peer: Peer, *answers: Endpoint) -> None:
        self.peer, self.answers, self.calls = peer, answers, []

    def read(self) -> Interface:
        return Interface(self.name, peers={self.peer.key: self.peer})

    def update(self, changes) -> None:
        self.calls.append(list(changes))
        for change in changes:
            if change.endpoint is not None:
                self.peer = replace(self.peer, endpoint=change.endpoint)
            if change.keepalive is not None:
                self.peer = replace(self.peer, keepalive=change.keepalive)
        self._answer()

    def restart_peer(self, key, endpoint, keepalive, *, since=None) -> None:
        self.calls.append(("restart", endpoint, keepalive))
        self.peer = replace(self.peer, endpoint=endpoint, keepalive=keepalive, handshake=0.0)
        self._answer()

    def _answer(self) -> None:
        if self.peer.endpoint in self.answers:
            self.peer = replace(self.peer, handshake=time.time())


class Sent:
    def __init__(self) -> None:
        self.sent: list[tuple[Endpoint, int]] = []

    def send(self, payload: bytes, endpoint: Endpoint, ttl: int | None = None) -> None:
        assert payload[:2] == b"\x00\x11"
        assert len(payload) == 20
        self.sent.append((endpoint, ttl))


def link(tunnel: Tunnel, **options) -> Link:
    return Link(tunnel, options.pop("port", None), tunnel.peer.key, lambda _: None, **options)


@pytest.mark.parametrize(
    ("ours", "theirs", "first"),
    [
        (CONE, CONE, True),
        (SYMMETRIC, CONE, True),
        (CONE, SYMMETRIC, False),
        (SYMMETRIC, SYMMETRIC, True),
        (UNKNOWN, CONE, True),
        (UNKNOWN, SYMMETRIC, False),
    ],
)
def test_the_side_that_cannot_be_reached_starts_else_the_smaller_key(ours, theirs, first: bool) -> None:
    assert initiates(LOW, HIGH, ours, theirs) is first
    assert initiates(HIGH, LOW, theirs, ours) is not first


@pytest.mark.parametrize(
    ("ours", "theirs", "possible"),
    [
        (CONE, CONE, True),
        (SYMMETRIC, FULL_CONE, True),
        (SYMMETRIC, ("endpoint-independent", "address-dependent"), True),
        (SYMMETRIC, CONE, False),
        (SYMMETRIC, SYMMETRIC, False),
        (SYMMETRIC, UNKNOWN, True),
        (UNKNOWN, UNKNOWN, True),
    ],
)
def test_pairs_of_nats_that_cannot_be_punched_are_named(ours, theirs, possible: bool) -> None:
    assert (impossible(ours, theirs) is None) is possible
    assert (impossible(theirs, ours) is None) is possible


def test_the_lan_comes_last_unless_both_are_behind_one_nat() -> None:
    lan, wan = candidate("192.168.1.5:1", Kind.HOST), candidate("203.0.113.1:1")
    elsewhere, same = [candidate("198.51.100.1:2")], [candidate("203.0.113.1:2")]
    assert order([lan, wan], elsewhere) == [wan, lan]
    assert order([wan, lan], same) == [lan, wan]


def test_what_worked_last_comes_first() -> None:
    lan, wan, v6 = candidate("192.168.1.5:1", Kind.HOST), candidate("203.0.113.1:1"), candidate("[2001:db8::1]:1")
    assert order([lan, v6, wan], [], wan.endpoint) == [wan, v6, lan]


def test_a_side_behind_a_symmetric_nat_is_waited_for_longer() -> None:
    assert silence(SYMMETRIC) > silence(CONE) == silence(UNKNOWN)


def test_a_first_endpoint_is_set_with_its_keepalive_in_one_call() -> None:
    tunnel = Tunnel(Peer(LOW))
    link(tunnel).fire(FIRST)
    assert tunnel.calls == [[Change(LOW, FIRST, 25)]]


def test_a_set_keepalive_is_armed_again_so_that_it_fires() -> None:
    tunnel = Tunnel(Peer(LOW, keepalive=7))
    link(tunnel).fire(FIRST)
    assert tunnel.calls == [[Change(LOW, keepalive=0), Change(LOW, FIRST, 7)]]


def test_a_peer_that_tries_elsewhere_is_restarted() -> None:
    tunnel = Tunnel(Peer(LOW, endpoint=SECOND, keepalive=7))
    link(tunnel).fire(FIRST)
    assert tunnel.calls == [("restart", FIRST, 7)]


def test_a_live_session_is_left_alone() -> None:
    tunnel = Tunnel(Peer(LOW, endpoint=SECOND, handshake=time.time() - 100))
    link(tunnel).fire(FIRST)
    assert tunnel.calls == []


async def test_candidates_are_tried_one_after_the_other_until_the_handshake() -> None:
    tunnel = Tunnel(Peer(LOW), SECOND)
    attempt = Attempt(link(tunnel), [FIRST, SECOND], initiate=True)
    await asyncio.wait_for(attempt.run(), 10)
    assert tunnel.calls == [[Change(LOW, FIRST, 25)], ("restart", SECOND, 25)]


async def test_the_passive_side_punches_and_sets_no_endpoint() -> None:
    tunnel, port = Tunnel(Peer(LOW)), Sent()
    running = asyncio.ensure_future(Attempt(link(tunnel, port=port), [FIRST], initiate=False).run())
    while len(port.sent) < 3:
        await asyncio.sleep(0.01)
    assert port.sent == [(FIRST, 2), (FIRST, 3), (FIRST, 4)]
    assert tunnel.calls == []
    tunnel.peer = replace(tunnel.peer, handshake=time.time())
    await asyncio.wait_for(running, 10)
    assert tunnel.calls == []


async def test_after_a_silence_the_passive_side_starts_too() -> None:
    tunnel = Tunnel(Peer(LOW), FIRST)
    await asyncio.wait_for(Attempt(link(tunnel), [FIRST], initiate=False).run(), 10)
    assert tunnel.calls == [[Change(LOW, FIRST, 25)]]


@pytest.mark.parametrize(
    ("before", "behind_nat", "keepalives"),
    [(0, True, (0, 25)), (0, False, (0,)), (7, True, (0, 7)), (7, False, (0, 7))],
)
def test_the_users_keepalive_is_put_back_and_a_packet_sent(before: int, behind_nat: bool, keepalives) -> None:
    tunnel = Tunnel(Peer(LOW, keepalive=before))
    connection = link(tunnel, behind_nat=behind_nat)
    connection.fire(FIRST)
    tunnel.peer = replace(tunnel.peer, keepalive=before or 25)
    connection.settle()
    assert tunnel.calls[1:] == [[Change(LOW, keepalive=seconds) for seconds in keepalives]]


def test_a_handshake_on_its_way_is_not_thrown_away() -> None:
    """An authentic packet came since the last try: the other side's initiation, which a restart would forget."""
    tunnel = Tunnel(Peer(LOW, endpoint=SECOND))
    connection = link(tunnel)
    tunnel.peer = replace(tunnel.peer, rx=148)
    connection.fire(FIRST)
    assert tunnel.calls == []
    connection.fire(FIRST)
    assert tunnel.calls == [("restart", FIRST, 25)]


@pytest.mark.parametrize("step", [-3600.0, 3600.0], ids=["back", "forward"])
def test_a_handshake_counts_whatever_was_done_to_the_clock(step: float) -> None:
    """WireGuard dates it by the wall clock, which was set while we connected."""
    tunnel = Tunnel(Peer(LOW, handshake=time.time() - 1000))
    connection = link(tunnel)
    assert not connection.connected()
    tunnel.peer = replace(tunnel.peer, handshake=time.time() + step)
    assert connection.connected()


def test_a_peer_that_was_restarted_is_not_connected() -> None:
    tunnel = Tunnel(Peer(LOW, handshake=time.time() - 1000))
    connection = link(tunnel)
    tunnel.peer = replace(tunnel.peer, handshake=0.0)
    assert not connection.connected()


def test_without_a_handshake_the_peer_is_left_as_it_was() -> None:
    tunnel = Tunnel(Peer(LOW, endpoint=SECOND, keepalive=0))
    connection = link(tunnel)
    connection.fire(FIRST)
    connection.restore()
    assert (tunnel.peer.endpoint, tunnel.peer.keepalive) == (SECOND, 0)


def test_the_endpoint_that_the_user_gave_is_remembered_by_the_next_link_and_no_other() -> None:
    """What we have put in its place is not taken for the user's, however often the peers change."""
    tunnel = Tunnel(Peer(LOW, endpoint=FIRST))
    one = link(tunnel)
    one.fire(SECOND)
    assert (tunnel.peer.endpoint, one.given) == (SECOND, FIRST)
    two = link(tunnel, remembered=one.knowledge)
    assert two.given == FIRST
    assert link(tunnel).given == SECOND
    tunnel.peer = replace(tunnel.peer, endpoint=THIRD)  # set by the user meanwhile
    assert link(tunnel, remembered=two.knowledge).given == THIRD


async def test_when_it_takes_long_the_endpoint_that_the_user_gave_gets_the_rests(monkeypatch) -> None:
    """There WireGuard would be without us, and it tries by itself."""
    monkeypatch.setattr("wgdisco.connect.PATIENCE", 0.001)
    monkeypatch.setattr("wgdisco.connect.LONGEST_REST", 0.05)
    monkeypatch.setattr("wgdisco.link.GLANCE", 0.001)
    monkeypatch.setattr("wgdisco.link.Budget.take", lambda *_: True)
    tunnel = Tunnel(Peer(LOW, endpoint=THIRD))
    attempt = Attempt(link(tunnel), [FIRST, SECOND], initiate=True)
    running = asyncio.ensure_future(attempt.run())
    while attempt.fired < 40:
        await asyncio.sleep(0.001)
    running.cancel()
    tried = [call[1] for call in tunnel.calls if call[0] == "restart"]
    assert THIRD not in tried[:20]
    assert tried[-3:] in ([FIRST, SECOND, THIRD], [SECOND, THIRD, FIRST], [THIRD, FIRST, SECOND])
