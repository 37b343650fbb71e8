"""What of an interface makes another session necessary, when our addresses count as moved, and what a sleep looks like."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network

import pytest

from tests.attacks.virtual import virtually
from tests.unit.records import ALICE, BOB, candidate
from wgdisco.device import Interface, Peer
from wgdisco.errors import NoDevice
from wgdisco.look import CALM, LATE, LOOK, SETTLE, SHARE, Lookout, identity
from wgdisco.record import Kind
from wgdisco.sources import Found, Where

PEER = Peer(ALICE.public, allowed_ips=(ip_network("10.0.0.1/32"), ip_network("10.0.0.2/32")))
INTERFACE = Interface("wg9", BOB, BOB.public, 51820, 7, {ALICE.public: PEER}, 4)
SLEPT = "this host slept, or its clock was held"
HOME, CAFE = (Found(candidate(text).endpoint, Kind.HOST, "interface", "eth0") for text in ("10.1.1.1:1", "10.2.2.2:1"))


class Monitor:
    """Tells when the test says so; `inside` as long as somebody listens."""

    def __init__(self, told) -> None:
        self.told, self.inside = told, None

    def __enter__(self):
        self.inside = True
        return self

    def __exit__(self, *_) -> None:
        self.inside = False


class Host:
    """What a lookout looks at and calls: `heard` is what it said, `asked` and `reads` how often it looked."""

    name = "wg9"

    def __init__(self, monkeypatch) -> None:
        self.interface, self.takes, self.reads = INTERFACE, 0.0, 0
        self.found, self.asked, self.slept, self.set, self.heard = [HOME], 0, 0.0, 0.0, []
        monkeypatch.setattr("wgdisco.look.Monitor", self.listen)

    def listen(self, told) -> Monitor:
        self.monitor = Monitor(told)
        return self.monitor

    def read(self) -> Interface:
        self.reads += 1
        if self.takes:
            asyncio.get_running_loop().now += self.takes
        if self.interface is None:
            raise NoDevice("there is no interface wg9")
        return self.interface

    async def addresses(self) -> Where:
        self.asked += 1
        return Where(list(self.found))

    def lookout(self) -> Lookout:
        loop = asyncio.get_running_loop()
        calls = [*(lambda word=word: self.heard.append(word) for word in ("moved", "stirred")), self.heard.append]
        uptime = lambda: loop.time() + self.slept  # noqa: E731 - two clocks side by side
        return Lookout(self, self.addresses, *calls, clock=uptime, wall=lambda: 1e9 + uptime() + self.set)

    @asynccontextmanager
    async def watched(self):
        """A lookout at work, that has begun to listen."""
        lookout = self.lookout()
        task = asyncio.ensure_future(lookout.run())
        await asyncio.sleep(LOOK / 2)
        try:
            async with asyncio.timeout(1000):
                yield lookout, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stir(self, settle: float = 2 * SETTLE) -> None:
        """The kernel tells of something, and the lookout looks at it."""
        self.monitor.told()
        await asyncio.sleep(settle)


@pytest.fixture
def host(monkeypatch) -> Host:
    return Host(monkeypatch)


# ---- the interface


CHANGES = {
    "its key": {"public": ALICE.public},
    "its listen port": {"listen_port": 51821},
    "its firewall mark": {"fwmark": 8},
    "the interface itself": {"index": 5},
    "its peers": {"peers": {}},
    "its key and its listen port and its peers": {"public": None, "listen_port": 0, "peers": {}},
}


@pytest.mark.parametrize(("words", "fields"), CHANGES.items(), ids=list(CHANGES))
def test_what_changed_ends_it_and_is_named(host, words, fields) -> None:
    async def work() -> str:
        async with host.watched() as (_, task):
            host.interface = replace(INTERFACE, **fields)
            return await task

    assert virtually(work()) == words


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint": HOME.endpoint, "keepalive": 25},
        {"handshake": 1.0, "rx": 5, "tx": 7},
        {"preshared": b"p" * 32},
        {"allowed_ips": PEER.allowed_ips[::-1]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_goes_on_in_a_session_makes_no_other_one_necessary(fields) -> None:
    assert identity(replace(INTERFACE, peers={ALICE.public: replace(PEER, **fields)})) == identity(INTERFACE)


def test_other_allowed_ips_are_other_peers() -> None:
    fewer = replace(PEER, allowed_ips=PEER.allowed_ips[:1])
    assert identity(replace(INTERFACE, peers={ALICE.public: fewer})) != identity(INTERFACE)


def test_the_latest_reading_is_kept_for_others(host) -> None:
    async def work() -> Interface:
        async with host.watched() as (lookout, _):
            host.interface = replace(INTERFACE, refused=("a peer without a private key",))
            await asyncio.sleep(LOOK)
            return lookout.interface

    assert virtually(work()) is host.interface


def test_an_interface_that_has_gone_is_an_error(host) -> None:
    async def work() -> None:
        async with host.watched() as (_, task):
            host.interface = None
            await task

    with pytest.raises(NoDevice):
        virtually(work())
    assert host.monitor.inside is False


def test_who_stops_it_stops_the_listening(host) -> None:
    async def work() -> list[bool]:
        async with host.watched():
            listened = host.monitor.inside
        return [listened, host.monitor.inside]

    assert virtually(work()) == [True, False]


@pytest.mark.parametrize(("takes", "seconds"), [(0.0, LOOK), (LOOK / SHARE, LOOK), (0.1, 0.1 * SHARE)])
def test_a_look_that_takes_long_is_made_less_often(host, takes, seconds) -> None:
    """A hundredth of the time at most is spent on it."""

    async def work() -> int:
        async with host.watched():
            await asyncio.sleep(LOOK)
            host.reads, host.takes = 0, takes
            await asyncio.sleep(20 * seconds)
            return host.reads

    assert 18 <= virtually(work()) <= 21


# ---- addresses and routes


def test_other_addresses_are_a_move(host) -> None:
    async def work() -> None:
        async with host.watched():
            host.found = [CAFE]
            await host.stir()

    virtually(work())
    assert host.heard == ["moved"]


def test_a_move_is_told_once(host) -> None:
    async def work() -> None:
        async with host.watched():
            host.found = [CAFE]
            await host.stir()
            await host.stir()

    virtually(work())
    assert host.heard == ["moved", "stirred"]


def test_the_same_address_on_another_link_is_a_move(host) -> None:
    async def work() -> None:
        async with host.watched():
            host.found = [replace(HOME, detail="wlan0")]
            await host.stir()

    virtually(work())
    assert host.heard == ["moved"]


def test_events_without_a_change_have_us_look_again_once_in_five_seconds(host) -> None:
    """The same address may belong to another network now, and a host with containers has an event every second."""

    async def work() -> list[int]:
        counts = []
        async with host.watched():
            for seconds in (0, CALM - 1, 1):
                await asyncio.sleep(seconds)
                await host.stir()
                counts.append(len(host.heard))
        return counts

    assert virtually(work()) == [1, 1, 2]
    assert set(host.heard) == {"stirred"}


def test_several_events_at_once_are_one(host) -> None:
    """An address goes before the next one comes: what is between them is no place of ours."""

    async def work() -> int:
        async with host.watched():
            before, host.found = host.asked, []
            await host.stir(SETTLE / 2)
            host.found = [HOME]
            await host.stir()
            return host.asked - before

    assert virtually(work()) == 1
    assert host.heard == ["stirred"]


def test_without_an_event_nobody_is_asked(host) -> None:
    async def work() -> int:
        async with host.watched():
            host.found = [CAFE]
            await asyncio.sleep(60)
            return host.asked

    assert virtually(work()) == 1


# ---- the passing of time


@pytest.mark.parametrize(("seconds", "heard"), [(LATE - 0.1, []), (LATE + 0.1, [SLEPT])])
def test_a_timer_that_is_four_seconds_late_has_slept(host, seconds, heard) -> None:
    async def work() -> None:
        async with host.watched():
            host.slept = seconds
            await asyncio.sleep(10)

    virtually(work())
    assert host.heard == heard


@pytest.mark.parametrize("word", ["slept", "set"])
def test_where_the_interface_is_looked_at_rarely_the_clocks_are_not(host, word) -> None:
    """A look at thousands of peers takes 0.3 s."""

    async def work() -> list[str]:
        async with host.watched():
            host.takes = 0.3
            await asyncio.sleep(2 * LOOK)
            setattr(host, word, 10.0)
            await asyncio.sleep(2 * LOOK)
            return host.heard

    assert virtually(work()) == [{"slept": SLEPT, "set": "the clock was set forward by 10 s"}[word]]


def test_a_sleep_that_an_event_ends_is_one_too(host) -> None:
    """The network comes up before the timer is over."""

    async def work() -> None:
        async with host.watched():
            host.slept, host.found = 3600.0, [CAFE]
            await host.stir()

    virtually(work())
    assert host.heard == [SLEPT, "moved"]


@pytest.mark.parametrize(("seconds", "way"), [(3600.0, "forward"), (-3600.0, "back"), (6.0, "forward")])
def test_a_clock_that_is_set_is_noticed_at_the_next_look(host, seconds, way) -> None:
    """Once, however long it stays so."""

    async def work() -> list[int]:
        counts = []
        async with host.watched():
            host.set = seconds
            for pause in (LOOK, 60):
                await asyncio.sleep(pause)
                counts.append(len(host.heard))
        return counts

    assert virtually(work()) == [1, 1]
    assert host.heard == [f"the clock was set {way} by {abs(seconds):.0f} s"]


def test_a_clock_that_is_corrected_by_little_is_left_alone(host) -> None:
    async def work() -> None:
        async with host.watched():
            host.set = -4.0
            await asyncio.sleep(60)

    virtually(work())
    assert host.heard == []
