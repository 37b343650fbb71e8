"""A session lives or has ended, is answered or not, whatever is done to the wall clock meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.records import ALICE
from wgdisco.device import LIVE, Peer
from wgdisco.pulse import RECENT, REJECTED, Pulse

NOW = 1_795_233_600.0
STEPS = [3600.0, -3600.0]


class Watched:
    """A peer of which one look a second is taken, on a host whose wall clock can be set."""

    def __init__(self, age: float = 0.0, **fields) -> None:
        self.uptime, self.ahead = 9e5, NOW
        self.peer = Peer(ALICE.public, rx=1000, tx=1000, handshake=self.wall() - age)
        self.peer = replace(self.peer, **fields)
        self.pulse = Pulse(lambda: self.uptime, self.wall)
        self.pulse.see(self.peer)

    def wall(self) -> float:
        return self.uptime + self.ahead

    def look(self, seconds: int = 1, rx: int = 0, tx: int = 0) -> bool:
        """So many looks, before each of which so much came in and went out; whether it lives in the end."""
        for _ in range(seconds):
            self.uptime += 1.0
            self.peer = replace(self.peer, rx=self.peer.rx + rx, tx=self.peer.tx + tx)
            self.pulse.see(self.peer)
        return self.pulse.live


@pytest.mark.parametrize("step", STEPS)
def test_a_session_outlives_a_clock_that_is_set_and_ends_in_its_time(step) -> None:
    watched = Watched()
    watched.look(10)
    watched.ahead += step
    assert watched.look(int(LIVE) - 11)
    assert not watched.look(2)


@pytest.mark.parametrize("step", STEPS)
def test_a_handshake_that_has_come_since_the_last_look_is_young(step) -> None:
    """WireGuard dated it, and then the clock was set."""
    watched = Watched(age=LIVE + 1)
    assert not watched.pulse.live
    watched.peer = replace(watched.peer, handshake=watched.wall())
    watched.ahead += step
    assert watched.look()
    assert watched.look(int(LIVE) - 3)
    assert not watched.look(3)


@pytest.mark.parametrize("step", STEPS)
def test_what_receives_lives_as_long_as_its_keys_may(step) -> None:
    watched = Watched()
    watched.look(100, rx=100)
    watched.ahead += step
    assert watched.look(int(REJECTED + RECENT) - 101, rx=100)
    assert not watched.look(2, rx=100)


@pytest.mark.parametrize("step", STEPS)
def test_a_clock_that_is_set_leaves_nothing_unanswered(step) -> None:
    """Else a peer that answers no checks would be moved away from a path that works."""
    watched = Watched()
    watched.look(10, rx=100, tx=100)
    watched.look(tx=100)
    watched.ahead += step
    assert (watched.pulse.unanswered(), watched.pulse.hushed()) == (0.0, 1.0)
    watched.look(3, tx=100)
    assert (watched.pulse.unanswered(), watched.pulse.hushed()) == (3.0, 4.0)


def test_what_was_there_at_the_first_look_is_dated_by_the_wall_clock_and_its_steps() -> None:
    assert Watched(age=LIVE - 1).pulse.live
    assert not Watched(age=LIVE + 1).pulse.live
    assert Watched(age=LIVE - 1 + 3600, stepped=3600.0).pulse.live
    assert not Watched(age=LIVE + 1 - 3600, stepped=-3600.0).pulse.live


def test_when_something_was_heard_is_told_by_the_clock_of_now() -> None:
    watched = Watched()
    assert watched.pulse.heard_at() == 0.0
    watched.look(rx=100)
    watched.ahead += 3600.0
    watched.look(5)
    assert watched.pulse.heard_at() == watched.wall() - 5
