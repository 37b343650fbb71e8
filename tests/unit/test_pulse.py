"""Whether a session lives and is answered, told from its counters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.records import ALICE
from wgdisco.device import Peer
from wgdisco.device.restart import LIVE
from wgdisco.pulse import FLOWING, FLOWS, RECENT, REJECTED, SILENT, Pulse

START = 1_800_000_000.0


class Seen:
    """A pulse, and the peer that it looks at; the last handshake was at START."""

    def __init__(self, **fields) -> None:
        self.pulse, self.now = Pulse(), START
        self.peer = Peer(ALICE.public, **{"handshake": START, "rx": 1000, "tx": 1000, **fields})
        self.look()

    def look(self, after: float = 0.0, rx: int = 0, tx: int = 0, **fields) -> Pulse:
        """So many seconds later so many bytes more have come in and gone out."""
        self.now += after
        self.peer = replace(self.peer, rx=self.peer.rx + rx, tx=self.peer.tx + tx, **fields)
        self.pulse.see(self.peer, self.now)
        return self.pulse

    def flow(self, seconds: float, pause: float = 1.0) -> None:
        """Something comes in now, and once every `pause` for so many seconds."""
        self.look(rx=100)
        for _ in range(round(seconds / pause)):
            self.look(pause, rx=100)

    @property
    def hushed(self) -> float:
        return self.pulse.hushed(self.now)

    @property
    def unanswered(self) -> float:
        return self.pulse.unanswered(self.now)


# ---- received


def test_what_came_in_before_the_first_look_is_of_unknown_age() -> None:
    assert Seen(rx=10**9).pulse.received == 0.0


def test_received_is_when_the_counter_last_grew() -> None:
    seen = Seen()
    seen.look(3, rx=1)
    seen.look(4, tx=500)
    assert seen.pulse.received == START + 3


def test_a_counter_that_begins_anew_is_nothing_received() -> None:
    seen = Seen()
    seen.look(1, rx=-900)
    assert seen.pulse.received == 0.0


# ---- live


@pytest.mark.parametrize(("age", "live"), [(0.0, True), (LIVE - 0.1, True), (LIVE, False)])
def test_a_session_lives_for_135_seconds_after_its_handshake(age, live) -> None:
    assert Seen().look(age).live is live


@pytest.mark.parametrize(("age", "live"), [(REJECTED + RECENT - 0.1, True), (REJECTED + RECENT, False)])
def test_what_comes_in_shows_life_as_long_as_its_keys_are_accepted(age, live) -> None:
    """Later it can only be handshakes that fail, which wireguard-go counts too."""
    assert Seen().look(age, rx=100).live is live


@pytest.mark.parametrize(("silence", "live"), [(RECENT - 0.1, True), (RECENT, False)])
def test_what_came_in_shows_life_for_a_while(silence, live) -> None:
    seen = Seen()
    seen.look(LIVE + 10, rx=100)
    assert seen.look(silence).live is live


def test_without_a_handshake_nothing_that_comes_in_is_a_session() -> None:
    assert not Seen(handshake=0.0).look(1, rx=148).live


def test_a_clock_that_was_set_back_ends_no_session() -> None:
    seen = Seen()
    seen.look(1, rx=100)
    assert seen.look(-5000).live


# ---- hushed


def test_a_flow_that_stopped_is_hushed_since_then() -> None:
    seen = Seen()
    seen.flow(10)
    seen.look(4)
    assert seen.hushed == 4


@pytest.mark.parametrize(("seconds", "hushed"), [(FLOWING - 0.5, 0.0), (FLOWING, 4.0)])
def test_a_flow_lasts_three_seconds_at_least(seconds, hushed) -> None:
    seen = Seen()
    seen.flow(seconds, 0.5)
    seen.look(4)
    assert seen.hushed == hushed


@pytest.mark.parametrize(("pause", "hushed"), [(FLOWS, 4.0), (FLOWS + 0.1, 0.0)])
def test_what_comes_now_and_then_is_no_flow(pause, hushed) -> None:
    """Keepalives, above all."""
    seen = Seen()
    seen.flow(4 * pause, pause)
    seen.look(4)
    assert seen.hushed == hushed


def test_a_flow_that_goes_on_after_a_pause_is_another_one() -> None:
    seen = Seen()
    seen.flow(10)
    seen.look(FLOWS + 1, rx=100)
    seen.look(4)
    assert seen.hushed == 0.0


def test_calm_ends_the_hush_until_something_has_flowed_again() -> None:
    seen = Seen()
    seen.flow(10)
    seen.look(4)
    seen.pulse.calm()
    assert seen.hushed == 0.0
    seen.flow(FLOWING)
    seen.look(4)
    assert seen.hushed == 4


# ---- unanswered


@pytest.mark.parametrize(("sent", "unanswered"), [(SILENT, 0.0), (SILENT + 1, 5.0)])
def test_two_keepalives_are_no_question_and_anything_more_is(sent, unanswered) -> None:
    seen = Seen()
    seen.look(1, tx=sent)
    seen.look(5)
    assert seen.unanswered == unanswered


def test_what_is_sent_little_by_little_adds_up() -> None:
    seen = Seen()
    for _ in range(3):
        seen.look(1, tx=SILENT // 2)
    assert seen.unanswered == 2


def test_the_wait_begins_with_the_first_thing_sent() -> None:
    seen = Seen()
    seen.look(1, tx=32)
    seen.look(2, tx=500)
    seen.look(3, tx=500)
    assert seen.unanswered == 5


def test_whatever_comes_in_is_an_answer() -> None:
    seen = Seen()
    seen.look(1, tx=500)
    seen.look(5, rx=1)
    assert seen.unanswered == 0.0
    seen.look(5, tx=500)
    seen.look(2)
    assert seen.unanswered == 2


def test_what_came_in_and_went_out_between_two_looks_is_answered() -> None:
    seen = Seen()
    seen.look(1, rx=100, tx=500)
    seen.look(5)
    assert seen.unanswered == 0.0


@pytest.mark.parametrize("counter", ["rx", "tx"])
def test_a_restarted_peer_has_asked_nothing(counter) -> None:
    """Its counters begin at 0: what was asked before is no longer known."""
    seen = Seen()
    seen.look(1, tx=500)
    seen.look(5, **{counter: -1})
    assert seen.unanswered == 0.0
