"""How old a wall-clock time is, whatever was done to the wall clock: read by the clock of then, against the uptime."""

from __future__ import annotations

import pytest

from wgdisco.device.timeline import KEPT, Timeline

HOUR = 3600.0
THEN = 1_795_233_600.0  # the wall clock when the host started


class Host:
    """Two clocks, of which the wall clock can be set; they move when the test says so."""

    def __init__(self, uptime: float = 10 * HOUR) -> None:
        self.uptime, self.ahead = uptime, THEN
        self.timeline = Timeline(self.wall, lambda: self.uptime)

    def wall(self) -> float:
        return self.uptime + self.ahead

    def step(self, seconds: float) -> None:
        """Set the wall clock; nobody looks before a second is over."""
        self.ahead += seconds
        self.uptime += 1.0


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize("step", [HOUR, -HOUR, 6.0, -6.0, 50 * 365 * 24 * HOUR])
def test_a_time_is_as_old_as_the_uptime_says(host, step) -> None:
    noted = host.wall()
    host.uptime += 20.0
    host.step(step)
    assert host.timeline.age(noted) == pytest.approx(21.0, abs=6.0)
    assert host.timeline.stepped(noted) == pytest.approx(step, abs=6.0)


def test_what_was_noted_long_before_it_was_watched_stays_old(host) -> None:
    noted = host.wall() - HOUR
    assert host.timeline.age(noted) == HOUR
    host.step(HOUR)
    assert host.timeline.age(noted) == HOUR + 1


@pytest.mark.parametrize("steps", [(HOUR, -HOUR), (-HOUR, HOUR), (HOUR, HOUR, -HOUR), (-HOUR, -HOUR, 5 * HOUR)])
def test_several_steps_are_allowed_for(host, steps) -> None:
    noted = []
    for step in steps:
        host.uptime += 500.0
        noted.append((host.wall(), host.uptime))
        host.step(step)
        host.timeline.look()
    host.uptime += 500.0
    ages = [host.timeline.age(when) for when, _ in noted]
    assert ages == pytest.approx([host.uptime - uptime for _, uptime in noted], abs=5.0)
    assert host.timeline.steps == len(steps)


def test_what_was_noted_after_a_step_before_anybody_looked_is_young(host) -> None:
    """By the new clock, at a time when the old one is still believed to go."""
    host.timeline.look()
    host.ahead += HOUR
    noted = host.wall()
    host.uptime += 30.0
    assert host.timeline.age(noted) == 30.0
    assert host.timeline.stepped(noted) == 0.0


def test_little_by_little_is_a_step_in_the_end(host) -> None:
    steps = []
    for _ in range(10):
        host.step(1.0)
        steps.append(host.timeline.look())
    assert [step for step in steps if step] == [pytest.approx(6.0)]


def test_a_step_is_told_once(host) -> None:
    host.step(-HOUR)
    assert [host.timeline.look(), host.timeline.look()] == [-HOUR, 0.0]


def test_a_time_ahead_of_the_clock_is_from_before_it_was_watched(host) -> None:
    """The clock was set back, nobody knows when: it is at least as old as the watching."""
    noted = host.wall() + HOUR
    assert host.timeline.age(noted) == 0.0
    host.uptime += 200.0
    assert host.timeline.age(noted) == 200.0
    assert host.wall() - noted - host.timeline.stepped(noted) == 200.0


def test_a_time_before_the_start_of_the_host_is_of_another_clock() -> None:
    """The clock was set forward, as after a boot without one: WireGuard's interface is not older than the host."""
    host = Host(uptime=60.0)
    noted = host.wall() - 30 * HOUR
    assert host.timeline.age(noted) == 0.0
    host.uptime += 100.0
    assert host.timeline.age(noted) == 100.0


def test_who_sleeps_between_the_two_clocks_reads_them_again(host) -> None:
    pauses = iter([8 * HOUR])

    def wall() -> float:
        now = host.wall()
        host.uptime += next(pauses, 0.0)
        return now

    host.timeline._wall = wall
    assert host.timeline.look() == 0.0


def test_the_oldest_steps_are_forgotten(host) -> None:
    for _ in range(3 * KEPT):
        host.step(HOUR)
        host.timeline.look()
    assert len(host.timeline._spans) == KEPT
