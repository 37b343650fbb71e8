"""Addresses of STUN servers stay what they were, whatever DNS says, until a server is silent."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading

import pytest
from stunserver import StunServer

from wgdisco.cli.endpoints import thorough
from wgdisco.device.port import UDPPort
from wgdisco.endpoint import Endpoint
from wgdisco.sources.pins import MISSES, Pins
from wgdisco.sources.stun import StunSource

NAME = "stun.example:3478"
ONE, TWO = (Endpoint.parse(f"192.0.2.{number}:3478") for number in (1, 2))


class Resolver:
    """The host's resolver: answers with these addresses in turn, an OSError where there are none; `asked` counts."""

    def __init__(self, monkeypatch, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0
        self.go = threading.Event()
        self.go.set()
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host, port, family, kind):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.go.wait(30)
        if not answer:
            raise socket.gaierror(-2, "Name or service not known")
        return [(family, kind, 17, "", (address, 0)) for address in answer]


def miss(pins: Pins, times: int = MISSES) -> None:
    for _ in range(times):
        pins.missed(NAME, 4)


async def test_a_rotating_name_is_asked_at_one_address(monkeypatch):
    resolver = Resolver(monkeypatch, ["192.0.2.1", "192.0.2.2"], ["192.0.2.2", "192.0.2.1"])
    pins = Pins()
    assert [await pins.find(NAME, 4) for _ in range(5)] == [ONE] * 5
    assert resolver.asked == 1


async def test_each_family_has_an_address_of_its_own(monkeypatch):
    Resolver(monkeypatch, ["192.0.2.1"], ["2001:db8::1"])
    pins = Pins()
    assert [str(await pins.find(NAME, version)) for version in (4, 6)] == ["192.0.2.1:3478", "[2001:db8::1]:3478"]


async def test_a_name_without_address_is_looked_up_at_each_look(monkeypatch):
    Resolver(monkeypatch, [], [], ["192.0.2.1"])
    pins = Pins()
    for _ in range(2):
        with pytest.raises(OSError, match=r"'stun\.example' has no address"):
            await pins.find(NAME, 4)
    assert await pins.find(NAME, 4) == ONE


async def test_a_server_that_is_silent_is_looked_up_anew(monkeypatch):
    """And another one of its addresses is taken."""
    resolver = Resolver(monkeypatch, ["192.0.2.1"], ["192.0.2.1", "192.0.2.2"])
    pins = Pins()
    await pins.find(NAME, 4)
    miss(pins, MISSES - 1)
    assert (await pins.find(NAME, 4), resolver.asked) == (ONE, 1)
    miss(pins, 1)
    assert (await pins.find(NAME, 4), resolver.asked) == (TWO, 2)
    assert (await pins.find(NAME, 4), resolver.asked) == (TWO, 2)


async def test_an_answer_forgives_the_silence_before_it(monkeypatch):
    resolver = Resolver(monkeypatch, ["192.0.2.1"])
    pins = Pins()
    await pins.find(NAME, 4)
    for _ in range(MISSES):
        miss(pins, MISSES - 1)
        pins.heard(NAME, 4)
        await pins.find(NAME, 4)
    assert resolver.asked == 1


async def test_dns_that_fails_leaves_the_address_and_is_asked_again_later(monkeypatch):
    resolver = Resolver(monkeypatch, ["192.0.2.1"], [])
    pins = Pins()
    await pins.find(NAME, 4)
    for asked in (2, 3):
        miss(pins)
        assert [await pins.find(NAME, 4) for _ in range(3)] == [ONE] * 3
        assert resolver.asked == asked


async def test_dns_that_is_late_leaves_the_address_and_is_heard_at_the_next_look(monkeypatch):
    monkeypatch.setattr("wgdisco.sources.pins.PATIENCE", 0.01)
    resolver = Resolver(monkeypatch, ["192.0.2.1"], ["192.0.2.2"])
    pins = Pins()
    await pins.find(NAME, 4)
    miss(pins)
    resolver.go.clear()
    assert [await pins.find(NAME, 4) for _ in range(3)] == [ONE] * 3
    assert resolver.asked == 2  # no thread more for each look
    resolver.go.set()
    async with asyncio.timeout(20):
        while await pins.find(NAME, 4) != TWO:
            await asyncio.sleep(0.01)
    assert resolver.asked == 2


async def test_a_first_look_up_outlives_the_look_that_began_it(monkeypatch):
    resolver = Resolver(monkeypatch, ["192.0.2.1"])
    resolver.go.clear()
    pins = Pins()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await pins.find(NAME, 4)
    resolver.go.set()
    assert (await pins.find(NAME, 4), resolver.asked) == (ONE, 1)


async def test_a_server_that_is_listed_twice_has_one_address(monkeypatch):
    Resolver(monkeypatch, ["192.0.2.1", "192.0.2.2"])
    pins = Pins()
    assert await asyncio.gather(pins.find(NAME, 4), pins.find(NAME, 4)) == [ONE, ONE]


# ---- in a source


class OnlyIPv4(UDPPort):
    """A port on a host with one family."""

    def _open(self, family):
        if family.version == 6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return super()._open(family)


async def test_a_source_goes_on_while_the_resolver_is_down(monkeypatch):
    """Its thorough copy included."""
    async with OnlyIPv4(0) as port, StunServer() as server:
        resolver = Resolver(monkeypatch, ["127.0.0.1"], [])
        source = StunSource(port, [f"stun.example:{server.endpoint().port}"])
        for each in (source, source, thorough(source)):
            where = await each.find(5.0)
            assert [str(found.endpoint) for found in where.found] == [f"127.0.0.1:{port.port}"]
        assert resolver.asked == 1


async def test_a_source_looks_a_silent_server_up_anew(monkeypatch):
    """It has moved: from the fourth look on it is asked at its new address."""
    async with (
        OnlyIPv4(0) as port,
        StunServer(lose=999) as dead,
        StunServer("127.0.0.2", ports=dead.ports) as moved,
    ):
        Resolver(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
        source = StunSource(port, [f"stun.example:{moved.endpoint().port}"])
        found = [(await source.find(0.1)).found for _ in range(MISSES)]
        found.append((await source.find(5.0)).found)
    assert [len(each) for each in found] == [0, 0, 0, 1]


async def test_a_server_that_was_not_waited_for_is_not_silent(monkeypatch):
    async with OnlyIPv4(0) as port, StunServer() as one, StunServer("127.0.0.2") as two, StunServer(lose=999) as slow:
        resolver = Resolver(monkeypatch, ["127.0.0.1"])
        servers = [str(one.endpoint()), str(two.endpoint()), f"stun.example:{slow.endpoint().port}"]
        source = StunSource(port, servers)
        for _ in range(2 * MISSES):
            assert len((await source.find(5.0)).found) == 1
        assert resolver.asked == 1
