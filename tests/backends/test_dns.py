"""DNS, against BIND and Knot: the contract, what lies in the zone, rights, and the ways to ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.backends.common import opening, slot
from tests.backends.dnsservers import ZONE, Bind, DNSServer, Knot, secret
from wgdisco.backend import Backend, Secret, to_text
from wgdisco.backends import _dns_ask
from wgdisco.backends.dns import DNS
from wgdisco.errors import StoreError
from wgdisco.testing import BackendContract

SERVERS = {"bind": Bind, "knot": Knot}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DNSServer]:
    """A server of each make."""
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


def opened(running: DNSServer, /, **options: Any) -> AbstractAsyncContextManager[DNS]:
    """A backend between `open` and `close`."""
    return opening(running.backend(**options))


class TestContract(BackendContract):
    """What every backend has to do, against both servers."""

    @pytest.fixture(autouse=True)
    def _server(self, server: DNSServer) -> None:
        self.control: DNSServer = server

    def backend(self) -> Backend:
        return self.control.backend()


# what lies in the zone


async def test_every_txt_record_of_a_name_is_a_value(server: DNSServer) -> None:
    server.update(
        ("add", slot("several").text, 60, "TXT", '"one" "more"'), ("add", slot("several").text, 60, "TXT", "two")
    )
    async with opened(server) as backend:
        assert sorted(await backend.get(slot("several"))) == [b"onemore", b"two"]


async def test_a_put_replaces_every_txt_record(server: DNSServer) -> None:
    for text in ("junk", "more junk"):
        server.update(("add", slot("junk").text, 60, "TXT", f'"{text}"'))
    async with opened(server) as backend:
        await backend.put(slot("junk"), b"ours", 600)
        assert await backend.get(slot("junk")) == [b"ours"]


async def test_more_than_a_datagram_comes_over_tcp(server: DNSServer) -> None:
    """A full slot is 4 kB: the answer over UDP is truncated."""
    many = [f"{number:x}" * 250 for number in range(16)]
    server.update(*(("add", slot("many").text, 60, "TXT", text) for text in many))
    async with opened(server) as backend:
        assert sorted(await backend.get(slot("many"))) == sorted(text.encode() for text in many)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_largest_blob_comes_whole_by_either_transport(server: DNSServer, transport: str) -> None:
    blob = bytes(index % 256 for index in range(681))
    async with opened(server, transport=transport) as backend:
        await backend.put(slot(transport), blob, 600)
        assert await backend.get(slot(transport)) == [blob]


async def test_the_largest_blob_fits_a_datagram(server: DNSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP is not needed for it."""

    async def unreachable(*_: object, **__: object) -> None:
        raise OSError("no TCP here")

    async with opened(server) as backend:
        await backend.put(slot("datagram"), b"x" * 681, 600)
        monkeypatch.setattr(backend._asker, "_stream", unreachable)
        assert await backend.get(slot("datagram")) == [b"x" * 681]


async def test_a_blob_in_its_text_form_is_a_value(server: DNSServer) -> None:
    """As one types it into a provider's form; text that is no blob stays what it is."""
    blob = b"\x01" + bytes(232)
    server.update(
        ("add", slot("text").text, 60, "TXT", " ".join(f'"{to_text(blob)[at : at + 255]}"' for at in (0, 255)))
    )
    server.update(("add", slot("text").text, 60, "TXT", "wgd1.AAAA"))
    async with opened(server) as backend:
        assert sorted(await backend.get(slot("text"))) == sorted([blob, b"wgd1.AAAA"])


async def test_a_wildcard_is_in_nobodys_way(server: DNSServer) -> None:
    """It answers for every slot, but cannot be required to be there by an update."""
    async with opened(server, subdomain="wild") as backend:
        assert await backend.get(slot("wild")) == [b"v=spf1 -all"]
        await backend.put(slot("wild"), b"ours", 600)
        assert await backend.get(slot("wild")) == [b"ours"]
        await backend.remove(slot("wild"))
        assert await backend.get(slot("wild")) == [b"v=spf1 -all"]


async def test_an_alias_is_followed(server: DNSServer) -> None:
    """A CNAME may lead from one name to another, as `alias` to a fixed slot does in the zone's file."""
    server.update(("replace", "target", 60, "TXT", "found"))
    async with opened(server, subdomain="alias") as backend:
        assert await backend.get(slot("any")) == [b"found"]


@pytest.mark.parametrize(("ttl", "lifetime", "expected"), [(300, 600, 300), (300, 100, 100), (0, 600, 0)])
async def test_resolvers_may_remember_a_record_for_its_ttl(
    server: DNSServer, ttl: int, lifetime: int, expected: int
) -> None:
    """The option counts, and never more than the record's lifetime."""
    async with opened(server, ttl=ttl) as backend:
        await backend.put(slot(f"ttl {ttl} {lifetime}"), b"x", lifetime)
    assert server.texts(slot(f"ttl {ttl} {lifetime}").text) == {b"x": expected}


async def test_a_refresh_of_the_same_blob_writes_nothing(server: DNSServer) -> None:
    async with opened(server) as backend:
        await backend.put(slot("same"), b"same", 600)
        serial = server.serial()
        await backend.put(slot("same"), b"same", 600)
        assert server.serial() == serial


# compare and set


async def test_an_update_that_comes_late_does_nothing(server: DNSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen server carries out what it was sent when it wakes up: that must not bring an old record back."""
    async with opened(server) as backend:
        await backend.put(slot("late"), b"first", 600)
        send, kept = backend._updater._asker.send, []

        async def lose(update: Any, servers: Any) -> None:
            kept.append((update, servers))
            raise ConnectionError("lost")

        monkeypatch.setattr(backend._updater._asker, "send", lose)
        with pytest.raises(ConnectionError, match="lost"):
            await backend.put(slot("late"), b"old", 600)
        monkeypatch.setattr(backend._updater._asker, "send", send)
        await backend.put(slot("late"), b"new", 600)
        await send(*kept[0])
        assert await backend.get(slot("late")) == [b"new"]


async def test_a_change_between_reading_and_writing_is_read_again(
    server: DNSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server) as backend:
        send, sent = backend._updater._asker.send, []

        async def interfere(update: Any, servers: Any) -> Any:
            if not sent:
                server.update(("add", slot("race").text, 60, "TXT", "in between"))
            sent.append(update)
            return await send(update, servers)

        monkeypatch.setattr(backend._updater._asker, "send", interfere)
        await backend.put(slot("race"), b"ours", 600)
        assert (await backend.get(slot("race")), len(sent)) == ([b"ours"], 2)


async def test_a_record_that_changes_all_the_time_is_an_error(
    server: DNSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server) as backend:
        send, sent = backend._updater._asker.send, []

        async def interfere(update: Any, servers: Any) -> Any:
            sent.append(update)
            server.update(("replace", slot("busy").text, 60, "TXT", f"number {len(sent)}"))
            return await send(update, servers)

        monkeypatch.setattr(backend._updater._asker, "send", interfere)
        with pytest.raises(StoreError, match=r"changed under 4 attempts .* who else writes it"):
            await backend.put(slot("busy"), b"ours", 600)


# rights

REFUSED = {
    "no key": ({"key": ""}, "refused with (REFUSED|NOTAUTH): .*(grant the key|correct zone or key_name)"),
    "an unknown key": ({"key": "stranger"}, "does not know the key 'stranger'"),
    "another secret": ({"key_secret": Secret(secret("another"))}, "secret of the key 'writer' is another one there"),
    "another algorithm": ({"key_algorithm": "hmac-sha512"}, "does not know the key|is another one there"),
    "a name outside the grant": (
        {"key": "limited"},
        "refused with (REFUSED|NOTAUTH)|does not know the key .* or does not allow it this name",
    ),
    "another zone": ({"zone": "other.test"}, "(REFUSED|NOTAUTH); does it serve this zone"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_put_that_is_not_allowed_says_why(server: DNSServer, name: str) -> None:
    options, message = REFUSED[name]
    async with opened(server, **options) as backend:
        with pytest.raises((StoreError, OSError), match=message) as caught:
            await backend.put(slot("forbidden"), b"x", 600)
    assert secret("writer") not in str(caught.value)
    assert server.texts(slot("forbidden").text) == {}


async def test_an_update_of_another_zone_is_an_error(server: DNSServer) -> None:
    """Knot answers it unsigned."""
    async with opened(server, zone="other.test") as backend:
        with pytest.raises(StoreError, match="does not serve"):
            await backend.remove(slot("a"))


async def test_clocks_that_differ_are_named(server: DNSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    async with opened(server) as backend:
        monkeypatch.setattr(time, "time", lambda: real() - 3600)
        with pytest.raises(StoreError, match=r"clocks .* differ"):
            await backend.put(slot("clock"), b"x", 600)


async def test_rights_on_a_subdomain_suffice(server: DNSServer) -> None:
    async with opened(server, key="limited", subdomain="sub") as backend:
        await backend.put(slot("below"), b"mine", 600)
        assert await backend.get(slot("below")) == [b"mine"]
        assert server.texts(f"{slot('below').text}.sub") == {b"mine": 30}
        await backend.remove(slot("below"))
        assert await backend.get(slot("below")) == []


async def test_who_only_reads_needs_no_key(server: DNSServer) -> None:
    async with (
        opened(server) as writer,
        opened(server, key="", server="", resolver=server.address, direct=False) as reader,
    ):
        await writer.put(slot("open"), b"x", 600)
        assert await reader.get(slot("open")) == [b"x"]


# finding servers


async def test_the_zones_servers_are_found_in_dns(server: DNSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates go to the primary server in the SOA record, direct questions to the NS records' addresses."""
    monkeypatch.setattr(_dns_ask, "PORTS", {"udp": server.port, "tcp": server.port})
    monkeypatch.setattr("wgdisco.backends._dns_find.PORTS", _dns_ask.PORTS)
    async with opened(server, server="", resolver="127.0.0.1", direct=True) as backend:
        await backend.put(slot("found"), b"x", 600)
        assert await backend.get(slot("found")) == [b"x"]
        assert [str(each) for each in await backend._finder.readers()] == [server.address]


async def test_a_zone_that_does_not_exist_is_an_error(server: DNSServer) -> None:
    missing = f"missing.{ZONE}"
    async with opened(server, server="", resolver=server.address, zone=missing) as backend:
        with pytest.raises(StoreError, match=f"there is no zone '{missing}' in DNS"):
            await backend.put(slot("a"), b"x", 600)
