"""One reading serves everybody who asks at about the same time, and no change is overlooked."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tests.unit.records import ALICE
from wgdisco.device import Change, Interface
from wgdisco.device.shared import FRESH, SHARE, SharedDevice
from wgdisco.endpoint import Endpoint
from wgdisco.errors import NoDevice

HERE = Endpoint.parse("192.0.2.1:51820")


class Slow:
    """A device that needs `takes` seconds for a reading; `calls` is what was asked of it."""

    name = "wg9"

    def __init__(self) -> None:
        self.now, self.takes, self.calls, self.error = 1000.0, 0.0, [], None

    def read(self) -> Interface:
        self.now += self.takes
        self.calls.append("read")
        if self.error is not None:
            raise self.error
        return Interface(self.name, index=len(self.calls))

    def update(self, changes) -> None:
        self.calls.append(changes)
        if self.error is not None:
            raise self.error

    def restart_peer(self, *what, since=None) -> None:
        self.calls.append((*what, since))
        if self.error is not None:
            raise self.error


@pytest.fixture
def slow(monkeypatch) -> Slow:
    made = Slow()
    monkeypatch.setattr("wgdisco.device.shared.time.monotonic", lambda: made.now)
    return made


def test_the_name_is_the_devices(slow) -> None:
    assert SharedDevice(slow).name == "wg9"


@pytest.mark.parametrize(("age", "reads"), [(0.0, 1), (FRESH - 0.001, 1), (FRESH, 2)])
def test_a_reading_serves_everybody_for_20_ms(slow, age, reads) -> None:
    shared = SharedDevice(slow)
    first = shared.read()
    slow.now += age
    assert (shared.read() is first, len(slow.calls)) == (reads == 1, reads)


def test_a_reading_that_takes_long_is_used_ten_times_as_long(slow) -> None:
    """Counted from its end, so that a tenth of the time at most is spent on reading."""
    slow.takes = 0.1
    shared = SharedDevice(slow)
    shared.read()
    slow.now += slow.takes / SHARE - 0.001
    shared.read()
    assert slow.calls == ["read"]
    slow.now += 0.002
    shared.read()
    assert slow.calls == ["read", "read"]


@pytest.mark.parametrize("error", [None, NoDevice("it has gone")], ids=["done", "failed"])
@pytest.mark.parametrize("restart", [False, True], ids=["update", "restart"])
def test_a_change_ends_the_reading_even_if_it_fails(slow, restart, error) -> None:
    """What failed may have been half applied."""
    shared = SharedDevice(slow)
    first = shared.read()
    slow.error = error
    with pytest.raises(NoDevice) if error else nullcontext():
        if restart:
            shared.restart_peer(ALICE.public, HERE, 25)
        else:
            shared.update([Change(ALICE.public, HERE)])
    slow.error = None
    assert shared.read() is not first


def test_changes_are_passed_on_as_they_are(slow) -> None:
    """A restart after one more look: whether the peer has a session depends on what was done to the clock."""
    shared, peer = SharedDevice(slow), object()
    shared.update([Change(ALICE.public, HERE)])
    shared.restart_peer(ALICE.public, HERE, 25, since=peer)
    assert slow.calls == [[Change(ALICE.public, HERE)], "read", (ALICE.public, HERE, 25, peer)]


def test_a_reading_that_fails_leaves_no_older_one_behind(slow) -> None:
    """Who asks next hears the same, and not what was so before."""
    shared = SharedDevice(slow)
    shared.read()
    slow.now += 1
    slow.error = NoDevice("it has gone")
    for _ in range(2):
        with pytest.raises(NoDevice):
            shared.read()
    assert slow.calls == ["read"] * 3
