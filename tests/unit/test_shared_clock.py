"""One reading for all, and a restart that no step of the wall clock makes possible on a live session."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.unit.records import ALICE, BOB
from wgdisco.device import LIVE, Interface, LiveSession, Peer, is_live
from wgdisco.device.restart import restart
from wgdisco.device.shared import FRESH, SharedDevice
from wgdisco.device.timeline import Timeline
from wgdisco.endpoint import Endpoint

HERE, THERE = (Endpoint.parse(f"192.0.2.{number}:51820") for number in (1, 2))
STEPS = [3600.0, -3600.0]


class Tunnel:
    """A device that restarts as all do, on a host whose wall clock can be set."""

    name = "wg9"

    def __init__(self, monkeypatch) -> None:
        self.uptime, self.ahead, self.reads, self.restarts = 9e5, 1_795_233_600.0, 0, 0
        monkeypatch.setattr("time.time", self.wall)
        monkeypatch.setattr("time.clock_gettime", lambda _: self.uptime)
        monkeypatch.setattr("time.monotonic", lambda: self.uptime)
        self.peer = Peer(ALICE.public, HERE, handshake=self.wall() - 20)

    def wall(self) -> float:
        return self.uptime + self.ahead

    def read(self) -> Interface:
        self.reads += 1
        return Interface(self.name, BOB, BOB.public, 51820, peers={self.peer.key: self.peer})

    def replace(self, peer: Peer, *, remove: bool) -> None:
        self.restarts += remove
        self.peer = replace(peer, handshake=0.0, rx=0, tx=0)

    def restart_peer(self, key, endpoint, keepalive, *, since=None) -> None:
        restart(self, key, endpoint, keepalive, since)


@pytest.fixture
def tunnel(monkeypatch) -> Tunnel:
    return Tunnel(monkeypatch)


def seen(shared: SharedDevice) -> Peer:
    return shared.read().peers[ALICE.public]


def live(shared: SharedDevice) -> bool:
    return is_live(seen(shared), None, time.time())


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("again", [False, True], ids=["the same", "another session"])
def test_a_live_session_is_not_restarted_after_a_step(tunnel, step, again) -> None:
    shared = SharedDevice(tunnel)
    shared.read()
    tunnel.ahead += step
    if again:  # as after a change of the peers
        shared = SharedDevice(tunnel, shared.timeline)
    assert live(shared)
    for since in (None, seen(shared)):
        with pytest.raises(LiveSession):
            shared.restart_peer(ALICE.public, THERE, 25, since=since)
    assert tunnel.restarts == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_session_that_has_ended_is_restarted_after_a_step(tunnel, step) -> None:
    """Also when its handshake is in the future now."""
    shared = SharedDevice(tunnel)
    tunnel.ahead += step
    tunnel.uptime += LIVE
    assert not live(shared)
    shared.restart_peer(ALICE.public, THERE, 25, since=seen(shared))
    assert (tunnel.restarts, tunnel.peer.endpoint) == (1, THERE)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_between_the_reading_and_the_restart_ends_no_session(tunnel, step) -> None:
    shared = SharedDevice(tunnel)
    before = seen(shared)
    tunnel.ahead += step
    with pytest.raises(LiveSession):
        shared.restart_peer(ALICE.public, THERE, 25, since=before)


def test_a_step_in_the_midst_of_the_restart_ends_no_session(tunnel) -> None:
    class Stepping(Tunnel):
        """Its clock is set between the last look at it and the restart's own."""

        def restart_peer(self, *arguments, **options) -> None:
            self.ahead += 3600.0
            super().restart_peer(*arguments, **options)

    tunnel.__class__ = Stepping
    with pytest.raises(LiveSession):
        SharedDevice(tunnel).restart_peer(ALICE.public, THERE, 25)


@pytest.mark.parametrize("step", [0.0, *STEPS])
def test_a_handshake_that_has_come_after_the_reading_is_a_live_session(tunnel, step) -> None:
    tunnel.peer = replace(tunnel.peer, handshake=tunnel.wall() - LIVE - 1)
    shared = SharedDevice(tunnel)
    before = seen(shared)
    tunnel.peer = replace(tunnel.peer, handshake=tunnel.wall())
    tunnel.ahead += step
    with pytest.raises(LiveSession):
        shared.restart_peer(ALICE.public, THERE, 25, since=before)


def test_a_reading_is_used_again_until_the_clock_is_set(tunnel) -> None:
    shared = SharedDevice(tunnel)
    first = shared.read()
    assert shared.read() is first
    tunnel.ahead += 3600.0
    assert seen(shared).stepped == 3600.0
    tunnel.uptime += FRESH + 0.01
    shared.read()
    assert tunnel.reads == 3


def test_without_a_step_a_reading_is_as_the_device_gave_it(tunnel) -> None:
    tunnel.peer = replace(tunnel.peer, handshake=0.0)
    assert seen(SharedDevice(tunnel, Timeline())) is tunnel.peer
