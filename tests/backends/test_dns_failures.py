"""DNS servers that are down, frozen, encrypted, lossy or no servers at all, and options that cannot be used."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import pytest

from tests.backends.common import opening, slot
from tests.backends.dnsservers import ZONE, Bind, DNSServer, Knot, certificate, secret
from tests.support import free_ports
from wgdisco.backend import Secret
from wgdisco.backends import _dns_ask, _dns_find
from wgdisco.backends._dns_ask import Asker, Where
from wgdisco.backends.dns import DNS
from wgdisco.errors import ConfigError, MissingExtra, StoreError


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    """BIND with a certificate."""
    folder = tmp_path_factory.mktemp("bind")
    certificate(folder)
    with Bind(folder) as running:
        yield running


@pytest.fixture(params=[Bind, Knot])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DNSServer]:
    """A server that the test may break."""
    with request.param(tmp_path) as running:
        yield running


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience, so that tests of silent servers are short."""
    monkeypatch.setattr(_dns_ask, "WAIT", 0.3)


class Impostor(asyncio.DatagramProtocol):
    """Something that answers each datagram with what `answer` makes of it."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self.answer, self.seen = answer, 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.seen += 1
        for each in self.answer(data):
            self.transport.sendto(each, address)


@asynccontextmanager
async def impostor(answer: Callable[[bytes], list[bytes]]) -> AsyncIterator[tuple[str, Impostor]]:
    """Its address, and itself."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Impostor(answer), ("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}", protocol
    finally:
        transport.close()


def reply(query: bytes, *texts: str, flags: int = 0) -> bytes:
    """A proper answer with these texts."""
    asked = dns.message.from_wire(query)
    answer = dns.message.make_response(asked)
    answer.flags |= flags
    if texts:
        answer.answer.append(dns.rrset.from_text(asked.question[0].name, 30, "IN", "TXT", *texts))
    return answer.to_wire()


# down and silent


async def test_a_closed_port_is_an_error_at_once() -> None:
    """Over UDP, too: the refusal is seen, and nobody waits for an answer."""
    (port,) = free_ports()
    async with opening(DNS(zone=ZONE, resolver=f"127.0.0.1:{port}")) as backend:
        with pytest.raises(ConnectionError, match=r"Connection refused|Errno 111"):
            await backend.get(slot("a"))


async def test_a_killed_server_refuses_updates_at_once(own: DNSServer) -> None:
    own.kill()
    async with opening(own.backend()) as backend:
        with pytest.raises(ConnectionError, match=r"Connect call failed"):
            await backend.remove(slot("a"))


async def test_a_record_survives_that_its_server_is_killed(own: DNSServer) -> None:
    async with opening(own.backend()) as backend:
        await backend.put(slot("a"), b"kept", 600)
        own.kill()
        own.start()
        assert await backend.get(slot("a")) == [b"kept"]


async def test_a_frozen_server_is_an_error_that_says_how_long(own: DNSServer, hasty: None) -> None:
    async with opening(own.backend()) as backend:
        own.freeze()
        try:
            for call in (backend.get(slot("a")), backend.put(slot("a"), b"x", 600), backend.remove(slot("a"))):
                with pytest.raises(ConnectionError, match=r"no answer within 0\.3 s"):
                    await call
        finally:
            own.thaw()


async def test_another_server_answers_for_one_that_does_not_and_is_asked_first_then(bind: Bind, hasty: None) -> None:
    async with impostor(lambda _: []) as (address, silent):
        servers = [Where("127.0.0.1", int(address.partition(":")[2])), Where("127.0.0.1", bind.port)]
        asker, query = Asker("udp"), dns.message.make_query(ZONE, "SOA")
        for _ in range(3):
            assert (await asker.ask(query, servers)).answer
        assert silent.seen == 1


async def test_a_lost_datagram_is_sent_again(hasty: None) -> None:
    async with impostor(lambda query: [reply(query, "found")] if server.seen > 1 else []) as (address, server):  # noqa: SIM117 - the lambda sees it
        async with opening(DNS(zone=ZONE, resolver=address)) as backend:
            assert await backend.get(slot("a")) == [b"found"]


async def test_junk_and_forged_answers_are_waited_through() -> None:
    """Somebody who cannot see the question cannot make it fail by guessing."""

    def answer(query: bytes) -> list[bytes]:
        forged = bytes([query[0] ^ 1]) + reply(query, "forged")[1:]
        return [b"junk", forged, reply(query, "found")]

    async with impostor(answer) as (address, _), opening(DNS(zone=ZONE, resolver=address)) as backend:
        assert await backend.get(slot("a")) == [b"found"]


async def test_a_circle_of_aliases_is_an_error() -> None:
    def circle(query: bytes) -> list[bytes]:
        asked = dns.message.from_wire(query)
        answer, name = dns.message.make_response(asked), asked.question[0].name
        answer.answer.append(dns.rrset.from_text(name, 30, "IN", "CNAME", "b.test."))
        answer.answer.append(dns.rrset.from_text("b.test.", 30, "IN", "CNAME", str(name)))
        return [answer.to_wire()]

    async with impostor(circle) as (address, _), opening(DNS(zone=ZONE, resolver=address)) as backend:
        with pytest.raises(StoreError, match="makes no sense"):
            await backend.get(slot("a"))


async def test_direct_does_not_take_the_answer_of_a_server_that_has_it_from_elsewhere() -> None:
    async with impostor(lambda query: [reply(query, "cached")]) as (address, _):  # noqa: SIM117 - two lines read better
        async with opening(DNS(zone=ZONE, server=address, direct=True)) as backend:
            with pytest.raises(StoreError, match=f"does not serve the zone '{ZONE}' itself"):
                await backend.get(slot("a"))


@pytest.mark.parametrize(("direct", "flag"), [(True, False), (False, True)])
async def test_only_a_resolver_is_asked_to_look_further(direct: bool, flag: bool) -> None:
    asked = []

    def answer(query: bytes) -> list[bytes]:
        asked.append(bool(dns.message.from_wire(query).flags & dns.flags.RD))
        return [reply(query, "x", flags=dns.flags.AA)]

    async with impostor(answer) as (address, _):  # noqa: SIM117 - two lines read better
        async with opening(DNS(zone=ZONE, server=address, resolver=address, direct=direct)) as backend:
            await backend.get(slot("a"))
    assert asked == [flag]


# encrypted


@pytest.mark.parametrize("transport", ["tls", "https"])
async def test_encrypted_questions(bind: Bind, transport: str) -> None:
    resolver = f"127.0.0.1:{bind.ports[1]}" if transport == "tls" else f"https://127.0.0.1:{bind.ports[2]}/dns-query"
    ca = str(bind.folder / "127.0.0.1.pem")
    options = {"transport": transport, "resolver": resolver, "ca": ca, "direct": False}
    async with opening(bind.backend(**options)) as backend:
        await backend.put(slot(transport), b"x" * 681, 600)
        assert await backend.get(slot(transport)) == [b"x" * 681]
        assert await backend.get(slot("nothing")) == []


@pytest.mark.parametrize("transport", ["tls", "https"])
async def test_a_certificate_nobody_signed_is_refused(bind: Bind, transport: str) -> None:
    resolver = f"127.0.0.1:{bind.ports[1]}" if transport == "tls" else f"https://127.0.0.1:{bind.ports[2]}/dns-query"
    async with opening(bind.backend(transport=transport, resolver=resolver, direct=False)) as backend:
        with pytest.raises(ConnectionError, match=r"(?i)certificate.verify.failed"):
            await backend.get(slot("a"))


async def test_https_that_is_no_dns_is_an_error(bind: Bind) -> None:
    ca, url = str(bind.folder / "127.0.0.1.pem"), f"https://127.0.0.1:{bind.ports[2]}/elsewhere"
    async with opening(bind.backend(transport="https", resolver=url, ca=ca, direct=False)) as backend:
        with pytest.raises(ConnectionError, match="404"):
            await backend.get(slot("a"))


async def test_https_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(MissingExtra, match=r"needs 'h2'.*wgdisco\[doh\]"):
        await DNS(zone=ZONE, transport="https", resolver="https://dns.example/dns-query").open()


# options

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "key without secret": ({"key_name": "k"}, "key_name 'k' and key_secret go together"),
    "secret without key": ({"key_secret": Secret(secret("k"))}, "key_name '' and key_secret go together"),
    "secret that is no base64": ({"key_name": "k", "key_secret": Secret("hunter2!")}, "key_secret is no base64"),
    "key name": ({"key_name": "a..b", "key_secret": Secret(secret("k"))}, r"key_name 'a\.\.b' is no domain name"),
    "port": ({"server": "ns1.example.org:x"}, "server 'ns1.example.org:x': expected HOST:PORT"),
    "brackets": ({"resolver": "[::1"}, r"resolver '\[::1'"),
    "zone": ({"zone": "a..b"}, "'a..b', which is no domain name"),
    "no zone": ({"zone": "."}, "expected a domain name"),
    "no room": ({"zone": ".".join(["a" * 60] * 4)}, "at most 221 characters"),
    "https without url": ({"transport": "https", "resolver": "9.9.9.9"}, "needs a resolver like 'https://"),
    "https and direct": (
        {"transport": "https", "resolver": "https://dns.example/dns-query", "direct": True},
        "direct = false",
    ),
    "two ways to publish": (
        {"provider": "cloudflare", "key_name": "k", "key_secret": Secret(secret("k"))},
        "^provider 'cloudflare' and key_name 'k': choose one way to publish$",
    ),
    "credentials without provider": (
        {"provider_auth": {"auth_token": Secret("hunter2")}},
        "^provider_auth and provider_options need a provider, as 'cloudflare'$",
    ),
    "provider's options without provider": (
        {"provider_options": {"zone_id": "z1"}},
        "^provider_auth and provider_options need a provider, as 'cloudflare'$",
    ),
    "ca without tls": ({"ca": "/ca.pem"}, "ca '/ca.pem' is for the transports tls and https"),
    "ca missing": ({"transport": "tls", "ca": "/missing.pem"}, "ca '/missing.pem': No such file"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_options_that_cannot_be_used_are_quoted(name: str) -> None:
    options, message = WRONG[name]
    with pytest.raises(ConfigError, match=message) as caught:
        await DNS(**{"zone": ZONE, **options}).open()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ns1.example.org", ("ns1.example.org", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_how_a_server_is_written(text: str, expected: tuple[str, int]) -> None:
    assert _dns_find.split("server", text, 53) == expected
