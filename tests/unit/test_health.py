"""For how long a store is left alone after it failed, by a clock that the tests move."""

from __future__ import annotations

import pytest

from wgdisco.errors import ConfigError, StoreError
from wgdisco.health import Rest

DOWN = StoreError("etcd: connection refused")


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rest(clock: Clock) -> Rest:
    return Rest(clock)


def failing(rest: Rest, clock: Clock, times: int) -> list[float]:
    """The rest after each of so many failures, every one of them when the rest before is over."""
    seconds = []
    for _ in range(times):
        clock.now += rest.seconds
        rest.failed(DOWN, clock.now)
        seconds.append(rest.seconds)
    return seconds


def test_the_rest_doubles_up_to_five_minutes(rest: Rest, clock: Clock) -> None:
    assert failing(rest, clock, 12) == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]


def test_a_store_may_be_down_for_weeks(rest: Rest, clock: Clock) -> None:
    assert failing(rest, clock, 5000)[-1] == 60


def test_what_fails_during_the_rest_doubles_nothing(rest: Rest, clock: Clock) -> None:
    for _ in range(100):
        rest.failed(DOWN, clock.now)
    assert (rest.failures, rest.seconds) == (1, 1)


def test_the_store_is_left_alone_as_long_as_it_asks_for(rest: Rest, clock: Clock) -> None:
    rest.failed(DOWN, clock.now, 900)
    clock.now += 100
    rest.failed(DOWN, clock.now)
    assert rest.seconds == 800
    assert str(rest.refusal) == "etcd: connection refused; left alone for another 800 s"


def test_nothing_is_refused_before_the_first_failure(rest: Rest) -> None:
    assert (rest.refusal, rest.seconds, rest.error) == (None, 0, None)


def test_one_failure_refuses_nothing(rest: Rest, clock: Clock) -> None:
    rest.failed(DOWN, clock.now)
    assert (rest.seconds, rest.refusal) == (1, None)


def test_the_second_failure_does_until_the_rest_is_over(rest: Rest, clock: Clock) -> None:
    failing(rest, clock, 3)
    clock.now += 1.5
    assert str(rest.refusal) == "etcd: connection refused; left alone for another 3 s"
    clock.now += 2.5
    assert rest.refusal is None


def test_a_store_that_asks_to_be_left_alone_is_at_the_first_failure(rest: Rest, clock: Clock) -> None:
    rest.failed(DOWN, clock.now, 60)
    assert str(rest.refusal) == "etcd: connection refused; left alone for another 60 s"
    clock.now += 60
    assert rest.refusal is None


def test_a_mistake_of_the_user_stays_one(rest: Rest, clock: Clock) -> None:
    rest.failed(ConfigError("etcd: no such user"), clock.now, 60)
    assert type(rest.refusal) is ConfigError


def test_success_forgives(rest: Rest, clock: Clock) -> None:
    failing(rest, clock, 4)
    rest.failed(DOWN, clock.now, 60)
    rest.succeeded(clock.now)
    assert (rest.failures, rest.seconds, rest.refusal, rest.error) == (0, 0, None, None)


def test_success_of_what_began_before_the_failure_forgives_nothing(rest: Rest, clock: Clock) -> None:
    began = clock.now
    clock.now += 1
    rest.failed(DOWN, began, 60)
    rest.succeeded(began)
    assert (rest.seconds, rest.error) == (60, DOWN)


def test_waking_ends_the_rest_after_failures(rest: Rest, clock: Clock) -> None:
    failing(rest, clock, 9)
    rest.wake()
    assert (rest.seconds, rest.refusal, rest.error) == (0, None, DOWN)
    assert failing(rest, clock, 1) == [2]


def test_waking_does_not_end_what_the_store_asked_for(rest: Rest, clock: Clock) -> None:
    rest.failed(DOWN, clock.now, 60)
    rest.wake()
    assert rest.seconds == 60
    assert str(rest.refusal) == "etcd: connection refused; left alone for another 60 s"
