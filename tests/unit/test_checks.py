"""Authenticated checks between two agents, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_address

from wgdisco.checks import Checker, Prober
from wgdisco.device.port import UDPPort
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PrivateKey
from wgdisco.stun import Attribute, Message, Type, decode, encode

ALICE, BOB, EVE = (PrivateKey(letter * 32) for letter in (b"a", b"b", b"e"))
QUICK = (0.05, 0.1)
LOOPBACK = ip_address("127.0.0.1")


class Side:
    """A checker on a port of its own, and what it heard."""

    def __init__(self, port: UDPPort, own: PrivateKey, *peers: PrivateKey, clock=lambda: 1e9) -> None:
        self.heard: list = []
        self.checker = Checker(port, own, [each.public for each in peers], lambda *what: self.heard.append(what), clock)
        self.endpoint = Endpoint(LOOPBACK, port.port)


@asynccontextmanager
async def ports(number: int):
    opened = []
    try:
        for _ in range(number):
            opened.append(await UDPPort(0).__aenter__())
        yield opened
    finally:
        for port in opened:
            await port.__aexit__()


@asynccontextmanager
async def two(**options):
    async with ports(2) as (first, second):
        yield Side(first, ALICE, BOB, **options), Side(second, BOB, ALICE, **options)


async def test_a_peer_answers_and_says_where_it_sees_us() -> None:
    async with two() as (alice, bob):
        passed = await alice.checker.check(BOB.public, bob.endpoint, QUICK)
        assert (passed.endpoint, passed.mapped) == (bob.endpoint, alice.endpoint)
        assert bob.heard == [(ALICE.public, alice.endpoint)]


async def test_a_stranger_gets_no_answer_and_is_not_heard() -> None:
    async with ports(2) as (first, second):
        eve, bob = Side(first, EVE, BOB), Side(second, BOB, ALICE)
        assert await eve.checker.check(BOB.public, bob.endpoint, QUICK) is None
        assert bob.heard == []


async def test_an_hour_of_skew_is_tolerated_and_two_are_not() -> None:
    for skew, answered in ((3599, True), (2 * 3600, False)):
        async with ports(2) as (first, second):
            alice = Side(first, ALICE, BOB)
            bob = Side(second, BOB, ALICE, clock=lambda skew=skew: 1e9 + skew)
            passed = await alice.checker.check(BOB.public, bob.endpoint, QUICK)
            assert (passed is not None) is answered


async def exchange(payload: bytes, to: Endpoint, source: socket.socket) -> bytes | None:
    source.sendto(payload, (str(to.address), to.port))
    for _ in range(20):
        await asyncio.sleep(0.01)
        try:
            return source.recv(2048)
        except BlockingIOError:
            continue
    return None


@asynccontextmanager
async def recorded():
    """A request of Alice to Bob as it is on the wire, Bob's side, and two sockets of an attacker."""
    async with ports(1) as (port,):
        bob = Side(port, BOB, ALICE)
        wire = []

        class Tap:
            on_request = None

            async def transact(self, request, server, *, key=None, waits=()):
                wire.append((encode(request, key), key))
                raise TimeoutError

        await Checker(Tap(), ALICE, [BOB.public], lambda *_: None, lambda: 1e9).check(BOB.public, bob.endpoint)
        with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as other:
            for each in (one, other):
                each.bind(("127.0.0.1", 0))
                each.setblocking(False)
            yield bob, *wire[0], one, other


async def test_no_answer_is_larger_than_its_question() -> None:
    async with recorded() as (bob, request, key, one, _):
        answer = await exchange(request, bob.endpoint, one)
        assert decode(answer).signed_by(key)
        assert len(answer) <= len(request)
    mapped = Endpoint(ip_address("2001:db8::1"), 65535)
    longest = encode(decode(request).answer(Type.SUCCESS, {Attribute.XOR_MAPPED_ADDRESS: mapped}), key)
    assert len(longest) <= len(request)


async def test_a_replay_from_elsewhere_is_not_answered_and_a_retransmission_is() -> None:
    async with recorded() as (bob, request, _, one, other):
        assert await exchange(request, bob.endpoint, one) is not None
        assert await exchange(request, bob.endpoint, one) is not None
        assert await exchange(request, bob.endpoint, other) is None
        assert len({source for _, source in bob.heard}) == 1


async def test_a_changed_request_is_not_answered() -> None:
    async with recorded() as (bob, request, key, one, _):
        for position in (4, 30, len(request) - 1):
            assert await exchange(bytes(b ^ (i == position) for i, b in enumerate(request)), bob.endpoint, one) is None
        unsigned = encode(Message(Type.REQUEST, decode(request).attributes))
        assert await exchange(unsigned, bob.endpoint, one) is None
        assert await exchange(encode(Message(Type.REQUEST, decode(request).attributes), key), bob.endpoint, one)


async def test_a_request_reflected_to_its_sender_is_not_answered() -> None:
    async with recorded() as (_, request, _, one, _), ports(1) as (port,):
        alice = Side(port, ALICE, BOB)
        assert await exchange(request, alice.endpoint, one) is None


async def test_a_peer_that_asks_too_often_is_answered_less() -> None:
    async with recorded() as (bob, request, key, one, _):
        tag = decode(request).attributes
        for _ in range(300):
            one.sendto(encode(Message(Type.REQUEST, tag), key), (str(bob.endpoint.address), bob.endpoint.port))
        await asyncio.sleep(0.3)
        answers = 0
        while True:
            try:
                one.recv(2048)
            except BlockingIOError:
                break
            answers += 1
        assert 1 <= answers <= 40


async def test_all_candidates_are_checked_at_once_and_the_working_one_is_found() -> None:
    async with two() as (alice, bob):
        dead = [Endpoint(LOOPBACK, port) for port in range(1, 9)]
        prober = Prober(alice.checker, BOB.public)
        prober.add([*dead, bob.endpoint])
        assert (await prober.within(5)).endpoint == bob.endpoint
        await prober.close()


async def test_who_gives_up_waiting_for_a_path_leaves_no_task_behind() -> None:
    async with two() as (alice, _):
        prober, before = Prober(alice.checker, BOB.public), asyncio.all_tasks()
        waiting = asyncio.ensure_future(prober.within(5))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert asyncio.all_tasks() == before


async def test_a_prober_is_bounded_and_finds_nothing_where_nothing_is() -> None:
    async with two() as (alice, _):
        prober = Prober(alice.checker, BOB.public)
        prober.add(Endpoint(LOOPBACK, port) for port in range(1, 100))
        assert len(prober._tasks) == 16
        assert await prober.within(0.2) is None
        await prober.close()


def test_tags_name_nobody_and_change_with_the_hour_and_the_direction() -> None:
    from wgdisco.audience import Audience
    from wgdisco.checks import _tag

    key = Audience.peers(ALICE, BOB.public).check_key()
    assert key == Audience.peers(BOB, ALICE.public).check_key()
    tags = {_tag(key, each.public, hour) for each in (ALICE, BOB) for hour in range(100)}
    assert len(tags) == 200
    assert all(len(tag) == 32 for tag in tags)


async def test_an_endpoint_that_spoke_is_checked_at_once_even_when_all_places_are_taken() -> None:
    async with two() as (alice, bob):
        prober = Prober(alice.checker, BOB.public)
        prober.add(Endpoint(LOOPBACK, port) for port in range(1, 17))
        prober.hear(bob.endpoint)
        assert (await prober.within(5)).endpoint == bob.endpoint
        assert len(prober._tasks) == 16
        await prober.close()


async def test_a_copied_tag_uses_up_nobodys_answers() -> None:
    async with recorded() as (bob, request, _, one, _):
        unsigned = encode(Message(Type.REQUEST, decode(request).attributes))
        for _ in range(200):
            one.sendto(unsigned, (str(bob.endpoint.address), bob.endpoint.port))
        await asyncio.sleep(0.2)
        assert await exchange(request, bob.endpoint, one) is not None
