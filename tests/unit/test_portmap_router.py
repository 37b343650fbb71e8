"""One router that refuses, lies, restarts or is silent; a real one is in tests/lab/test_portmap.py."""

from __future__ import annotations

import sys
from ipaddress import ip_address

import pytest

from tests.unit.fakerouter import OUTSIDE, FakeIgd, FakeRouter
from wgdisco.announce import hints_of
from wgdisco.device.routes import Route
from wgdisco.endpoint import Endpoint
from wgdisco.record import Kind
from wgdisco.sources import Behaviour, Found, Nat, Where, _portmap_line
from wgdisco.sources._portmap_router import Router
from wgdisco.sources.portmap import PortmapSource

PORT = 51820
HERE = Endpoint.parse(f"{OUTSIDE}:{PORT}")
PCP_MAP, PCP_ANNOUNCE, PMP_ADDRESS, PMP_MAP = (2, 1), (2, 0), (0, 0), (0, 1)


class Clock:
    """Seconds that go on when told so."""

    def __init__(self):
        self.now = 5000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(_portmap_line, "WAITS", (0.1, 0.1))
    monkeypatch.setattr("wgdisco.sources._portmap_router.SEARCH", 0.3)


def asked(fake, clock, way=None):
    return Router(way or fake.way, PORT, 3600, b"our nonce 12", 0, clock)


def later(fake, clock, seconds):
    """Both clocks go on."""
    clock.now += seconds
    fake.epoch += int(seconds)


async def test_pcp_is_one_mapping_though_natpmp_is_asked_too(clock):
    async with FakeRouter() as fake:
        router = asked(fake, clock)
        await router.find(5)
        assert (router.lease.protocol, router.lease.endpoint, router.problem) == ("PCP", HERE, "")
        assert (fake.count(*PCP_MAP), fake.count(*PMP_MAP)) == (1, 0)
        assert fake.asked[0][8:24] == bytes(10) + b"\xff\xff" + fake.way.source.packed


async def test_answers_from_another_port_than_the_routers_are_not_heard(clock):
    async with FakeRouter(elsewhere=True) as fake:
        router = asked(fake, clock)
        await router.find(5)
        assert (router.lease, router.silent) == (None, True)
        assert fake.count(*PCP_MAP) == 2


async def test_an_answer_with_another_nonce_is_passed_over(clock):
    def two(request):
        right = fake.mapped(request)
        return [right[:24] + bytes(12) + right[36:44] + bytes.fromhex("00000000000000000000ffffc0000201"), right]

    async with FakeRouter(two) as fake:
        router = asked(fake, clock)
        await router.find(5)
        assert router.lease.endpoint == HERE


async def test_a_private_outer_address_is_no_candidate_and_the_mapping_is_removed(clock):
    async with FakeRouter() as fake:
        fake.outside = "100.64.0.9"
        router = asked(fake, clock)
        await router.find(5)
        assert router.lease is None
        assert router.problem == (
            f"the router {fake.address} has 100.64.0.9 outside, a private address: it is behind another NAT, and a port "
            "forwarded there is not reached"
        )
        assert [request[4:8] for request in fake.asked if request[0] == 2] == [b"\0\0\x0e\x10", bytes(4)]
        assert fake.count(*PMP_MAP) == 0


async def test_a_router_without_an_address_is_asked_again_in_a_minute(clock):
    async with FakeRouter() as fake:
        fake.outside = "0.0.0.0"
        router = asked(fake, clock)
        await router.find(5)
        assert router.lease is None
        assert router.problem == (
            f"the router {fake.address} has 0.0.0.0 outside, which nobody can reach: the unspecified address"
        )
        fake.outside = OUTSIDE
        later(fake, clock, 60)
        await router.find(5)
        assert router.lease.endpoint == HERE


async def test_by_natpmp_a_private_outer_address_is_not_mapped_at_all(clock):
    async with FakeRouter(lambda request: fake.mapped(request, 1)) as fake:
        fake.outside = "192.168.178.20"
        router = asked(fake, clock)
        await router.find(5)
        assert (router.lease, fake.count(*PMP_MAP)) == (None, 0)
        assert "192.168.178.20 outside, a private address" in router.problem


@pytest.mark.parametrize("form", ["0081000100000000", "01810001", "silence"])
async def test_a_router_that_knows_natpmp_alone_is_asked_that_way(clock, form):
    async with FakeRouter(lambda _: None if form == "silence" else bytes.fromhex(form)) as fake:
        router = asked(fake, clock)
        await router.find(5)
        assert (router.lease.protocol, router.lease.endpoint) == ("NAT-PMP", HERE)


async def test_a_mapping_that_belongs_to_another_nonce_is_had_by_natpmp(clock):
    async with FakeRouter(lambda request: fake.mapped(request, 2)) as fake:
        router = asked(fake, clock)
        await router.find(5)
        assert (router.lease.protocol, router.problem) == ("NAT-PMP", "")


async def test_a_router_that_is_not_next_to_us_is_not_asked_to_map_somebody_elses_port(clock):
    async with FakeRouter(lambda request: fake.mapped(request, 12)) as fake:
        router = asked(fake, clock)
        await router.find(5)
        assert router.problem == (
            f"the router {fake.address} refuses to forward UDP port 51820: ADDRESS_MISMATCH (PCP)"
        )
        assert fake.count(*PMP_MAP) == 0


async def test_every_refusal_is_told_by_its_name(clock):
    async with FakeRouter(lambda request: fake.mapped(request, 2), lambda request: fake.pmp_mapped(request, 2)) as fake:
        router = asked(fake, clock)
        await router.find(5)
        what = f"the router {fake.address} refuses to forward UDP port 51820"
        assert router.problem == f"{what}: NOT_AUTHORIZED (PCP); {what}: Not Authorized/Refused (NAT-PMP)"


@pytest.mark.parametrize(("code", "rest"), [(2, 600), (7, 60), (8, 60)])
async def test_a_router_that_refused_is_left_alone(clock, code, rest):
    """For ten minutes; for one, when it lacked something for the moment."""
    refuse = {"pcp": lambda request: fake.mapped(request, code), "pmp": lambda _: None}
    async with FakeRouter(**refuse) as fake:
        router = asked(fake, clock)
        await router.find(5)
        before = len(fake.asked)
        later(fake, clock, rest - 1)
        await router.find(5)
        assert len(fake.asked) == before
        later(fake, clock, 1)
        await router.find(5)
        assert len(fake.asked) > before


async def test_a_shorter_lease_is_renewed_when_half_of_it_is_over(clock):
    async with FakeRouter() as fake:
        fake.lifetime = 120
        router = asked(fake, clock)
        await router.find(5)
        later(fake, clock, 59)
        await router.find(5)
        assert fake.count(*PCP_MAP) == 1
        later(fake, clock, 1)
        await router.find(5)
        assert fake.count(*PCP_MAP) == 2


async def test_the_router_is_only_asked_whether_it_was_restarted(clock):
    async with FakeRouter() as fake:
        router = asked(fake, clock)
        await router.find(5)
        for _ in range(3):
            later(fake, clock, 20)
            await router.find(5)
        assert (fake.count(*PCP_MAP), fake.count(*PCP_ANNOUNCE)) == (1, 3)


@pytest.mark.parametrize("protocol", ["PCP", "NAT-PMP"])
async def test_an_epoch_that_begins_anew_is_mapped_again_at_once_and_the_same_port_is_asked_for(clock, protocol):
    pcp = {"PCP": None, "NAT-PMP": lambda request: fake.mapped(request, 1)}[protocol]
    async with FakeRouter(pcp) as fake:
        fake.outer = 40000
        router = asked(fake, clock)
        await router.find(5)
        later(fake, clock, 20)
        fake.epoch = 3
        await router.find(5)
        head, port = (PCP_MAP, slice(42, 44)) if protocol == "PCP" else (PMP_MAP, slice(6, 8))
        maps = [request for request in fake.asked if request.startswith(bytes(head))]
        assert [request[port] for request in maps] == [PORT.to_bytes(2), (40000).to_bytes(2)]
        assert router.lease.epoch.theirs == 3


async def test_natpmp_tells_of_a_new_outer_address(clock):
    async with FakeRouter(lambda request: fake.mapped(request, 1)) as fake:
        router = asked(fake, clock)
        await router.find(5)
        later(fake, clock, 20)
        fake.outside = "198.51.100.99"
        await router.find(5)
        assert router.lease.endpoint == Endpoint.parse("198.51.100.99:51820")


async def test_a_router_that_falls_silent_keeps_its_lease_until_the_end(clock):
    """Every find checks, a renewal is tried less and less often, and then nothing is left of it."""
    async with FakeRouter() as fake:
        router = asked(fake, clock)
        await router.find(5)
        fake.pcp = fake.pmp = lambda _: None
        later(fake, clock, 1800)
        for _ in range(3):
            await router.find(5)
        assert fake.count(*PCP_MAP) == 1 + len(_portmap_line.WAITS)
        assert router.lease.endpoint == HERE
        later(fake, clock, 1800)
        await router.find(5)
        assert router.lease is None
        assert router.silent


async def test_a_router_that_had_answered_is_asked_again_sooner_than_a_stranger(clock):
    """A minute, two, four …: it may be starting."""
    async with FakeRouter() as fake:
        router = asked(fake, clock)
        await router.find(5)
        fake.pcp = lambda request: fake.mapped(request, 4)
        fake.pmp = lambda _: None
        fake.epoch = 1
        rests = []
        for _ in range(6):
            later(fake, clock, router._due - clock.now if rests else 20)
            await router.find(5)
            rests.append(router._due - clock.now)
        assert rests == [60, 120, 240, 480, 600, 600]


async def test_close_removes_what_was_asked_for_and_nothing_else(clock):
    async with FakeRouter() as fake:
        router = asked(fake, clock)
        await router.find(5)
        before = len(fake.asked)
        await router.close()
        (removal,) = fake.asked[before:]
        assert removal[:2] + removal[4:8] == b"\x02\x01" + bytes(4)
        assert removal[24:36] == b"our nonce 12"
        await router.close()
        assert len(fake.asked) == before + 1


async def test_close_asks_nothing_of_a_protocol_that_the_router_does_not_know(clock):
    async with FakeRouter(lambda request: fake.mapped(request, 1)) as fake:
        router = asked(fake, clock)
        await router.find(5)
        before = fake.count(*PCP_MAP)
        await router.close()
        assert fake.count(*PCP_MAP) == before
        assert fake.asked[-1][8:12] == bytes(4)


async def test_close_that_takes_nothing_back_asks_nothing(clock):
    async with FakeRouter() as fake:
        router = asked(fake, clock)
        await router.find(5)
        before = len(fake.asked)
        await router.close(take_back=False)
        assert len(fake.asked) == before


async def test_a_slow_router_is_not_waited_for_longer_than_the_deadline(clock):
    async with FakeRouter(lambda _: None, lambda _: None) as fake:
        router = asked(fake, clock)
        await router.find(0.01)
        assert (router.lease, router.problem) == (None, "")
        await router.find(5)
        assert router.silent


async def upnp(fake, igd):
    """The fake speaks UPnP alone, at this device; the requests it gets."""
    pytest.importorskip("miniupnpc")
    fake.pcp = fake.pmp = lambda _: None
    url, requests = fake.serve(igd)
    await fake.announce(f"{url}/description.xml")
    return requests


async def test_upnp_maps_and_removes_what_is_ours(clock):
    async with FakeRouter() as fake:
        igd = FakeIgd()
        await upnp(fake, igd)
        router = asked(fake, clock)
        await router.find(10)
        assert (router.lease.protocol, router.lease.endpoint) == ("UPnP", HERE)
        assert igd.entries[PORT]["NewPortMappingDescription"] == "wgdisco"
        assert igd.entries[PORT]["NewLeaseDuration"] == "3600"
        await router.close()
        assert igd.entries == {}


@pytest.mark.parametrize(
    "change",
    [{"NewInternalClient": "127.0.0.99"}, {"NewInternalPort": "7"}, {"NewPortMappingDescription": "mine"}],
    ids=["host", "port", "name"],
)
async def test_upnp_leaves_what_became_somebody_elses(clock, change):
    async with FakeRouter() as fake:
        igd = FakeIgd()
        await upnp(fake, igd)
        router = asked(fake, clock)
        await router.find(10)
        igd.entries[PORT] = {**igd.entries[PORT], **change}
        await router.close()
        assert PORT in igd.entries


def by_hand(client):
    """A mapping that somebody made in the router."""
    return {
        "NewInternalClient": str(client),
        "NewInternalPort": str(PORT),
        "NewPortMappingDescription": "mine",
        "NewEnabled": "1",
        "NewLeaseDuration": "0",
    }


async def test_upnp_uses_what_was_made_by_hand_as_it_is(clock):
    async with FakeRouter() as fake:
        igd = FakeIgd()
        await upnp(fake, igd)
        igd.entries[PORT] = by_hand(fake.way.source)
        router = asked(fake, clock)
        await router.find(10)
        assert router.lease.endpoint == HERE
        assert igd.entries == {PORT: by_hand(fake.way.source)}


@pytest.mark.parametrize("kind", ["lax", "shy"])
async def test_upnp_takes_no_port_that_a_neighbour_has(clock, kind):
    """Neither from a router that would let us, nor from one that shows nobody what is taken."""
    async with FakeRouter() as fake:
        igd = FakeIgd(**{kind: True})
        await upnp(fake, igd)
        igd.entries[PORT] = by_hand("127.0.0.99")
        router = asked(fake, clock)
        await router.find(10)
        assert igd.entries[PORT] == by_hand("127.0.0.99")
        assert 20000 <= router.lease.endpoint.port < 60000
        assert router.lease.endpoint.port in igd.entries


async def test_upnp_notices_that_its_mapping_is_gone_or_the_outer_address_another_one(clock):
    async with FakeRouter() as fake:
        igd = FakeIgd()
        await upnp(fake, igd)
        router = asked(fake, clock)
        await router.find(10)
        igd.entries.clear()
        clock.now += 120
        await router.find(10)
        assert PORT in igd.entries
        igd.outside = "198.51.100.99"
        clock.now += 120
        await router.find(10)
        assert router.lease.endpoint == Endpoint.parse("198.51.100.99:51820")


async def test_a_upnp_router_that_knows_only_permanent_leases_gets_one(clock):
    async with FakeRouter() as fake:
        igd = FakeIgd(permanent=True)
        await upnp(fake, igd)
        router = asked(fake, clock)
        await router.find(10)
        assert igd.entries[PORT]["NewLeaseDuration"] == "0"


async def test_upnp_says_private_outer_addresses_too(clock):
    async with FakeRouter() as fake:
        igd = FakeIgd(outside="10.0.0.7")
        await upnp(fake, igd)
        router = asked(fake, clock)
        await router.find(10)
        assert "10.0.0.7 outside, a private address" in router.problem
        assert igd.entries == {}


async def test_upnp_is_not_asked_behind_another_nat_that_pcp_told_of(clock):
    async with FakeRouter() as fake:
        igd = FakeIgd()
        requests = await upnp(fake, igd)
        fake.pcp, fake.outside = fake.mapped, "100.64.0.9"
        router = asked(fake, clock)
        await router.find(10)
        assert (router.lease, requests) == (None, [])


@pytest.mark.parametrize("how", ["location", "control", "base"])
async def test_no_other_host_is_asked_for_anything(clock, how):
    """A router's answer that points to another host leads nowhere (SSRF), be it the description or the control URL."""
    async with FakeRouter() as fake:
        fake.pcp = fake.pmp = lambda _: None
        victim, requests = fake.serve(FakeIgd(), "127.0.0.1")
        options = {"control": {"control": f"{victim}/x"}, "base": {"base": f"<URLBase>{victim}/</URLBase>"}}
        pytest.importorskip("miniupnpc")
        url, own = fake.serve(FakeIgd(**options.get(how, {})))
        await fake.announce(f"{victim if how == 'location' else url}/description.xml")
        router = asked(fake, clock)
        await router.find(10)
        assert requests == []
        assert router.lease is None
        assert own == ([] if how == "location" else ["/description.xml"])
        if how == "location":
            assert router.silent
        else:
            assert f"controlled at '{victim}/" in router.problem


async def test_what_another_host_says_about_the_router_is_not_heard(clock):
    async with FakeRouter() as fake:
        fake.pcp = fake.pmp = lambda _: None
        url, requests = fake.serve(FakeIgd())
        await fake.announce(f"{url}/description.xml", "127.0.0.1")
        router = asked(fake, clock)
        await router.find(10)
        assert (requests, router.silent) == ([], True)


async def test_a_upnp_router_without_the_library_names_what_to_install(clock, monkeypatch):
    async with FakeRouter() as fake:
        await upnp(fake, FakeIgd())
        monkeypatch.setitem(sys.modules, "miniupnpc", None)
        router = asked(fake, clock)
        await router.find(10)
        assert router.problem == (
            f"the router {fake.address} speaks UPnP; install what that needs with: pip install 'wgdisco[upnp]'"
        )


async def test_a_upnp_device_that_moved_to_another_port_is_found_again(clock):
    async with FakeRouter() as fake:
        requests = await upnp(fake, FakeIgd())
        router = asked(fake, clock)
        await router.find(10)
        moved, igd = await _restarted(fake), FakeIgd()
        await upnp(moved, igd)
        clock.now += 120
        await router.find(10)
        assert PORT in igd.entries
        assert requests
        await moved.__aexit__()


async def _restarted(fake):
    await fake.__aexit__()
    again = FakeRouter()
    again.address = fake.address
    return await again.__aenter__()


# ---- the source


async def test_without_a_router_the_source_says_so():
    assert await PortmapSource(PORT, lambda _: []).find(1) == Where(
        problems=["portmap: no router to ask: there is no default route by one"]
    )


async def test_a_public_address_needs_no_router():
    way = Route("eth0", ip_address("198.51.100.9"), on_link=False, gateway=ip_address("198.51.100.1"))
    assert await PortmapSource(PORT, lambda _: [way]).find(1) == Where(
        problems=["portmap: no router to ask: 198.51.100.9 is a public address, and no router translates it"]
    )


@pytest.mark.parametrize("source", ["fd00::5", "fe80::5"])
async def test_a_local_ipv6_address_is_not_opened(source):
    way = Route("eth0", ip_address(source), on_link=False, gateway=ip_address("fe80::1"))
    assert await PortmapSource(PORT, lambda _: [way]).find(1) == Where(
        problems=[f"portmap: no router to ask: {source} is a local address, and no firewall would pass anybody to it"]
    )


async def test_what_is_found_is_mapped_and_says_by_whom(clock, monkeypatch):
    monkeypatch.setattr("wgdisco.sources.portmap.is_private", lambda _: True)
    async with FakeRouter() as fake:
        source = PortmapSource(PORT, lambda _: [fake.way], clock=clock)
        detail = f"forwarded by the router {fake.address}, PCP"
        assert await source.find(5) == Where([Found(HERE, Kind.MAPPED, "portmap", detail)])
        before = len(fake.asked)
        await source.close()
        assert [request[4:8] for request in fake.asked[before:]] == [bytes(4)]


async def test_what_is_to_outlive_us_is_not_removed(clock, monkeypatch):
    monkeypatch.setattr("wgdisco.sources.portmap.is_private", lambda _: True)
    async with FakeRouter() as fake:
        source = PortmapSource(PORT, lambda _: [fake.way], clock=clock, outlive=True)
        await source.find(5)
        before = len(fake.asked)
        await source.close()
        assert len(fake.asked) == before


def test_peers_are_told_that_a_forwarded_port_lets_everybody_in():
    """Else a peer behind a symmetric NAT would say that it cannot reach us. A hole for IPv6 says nothing of IPv4."""
    dependent = Behaviour.ADDRESS_AND_PORT_DEPENDENT
    where = Where(nat=Nat(dependent, dependent, True))
    assert hints_of(where) == {"nat": [dependent, dependent]}
    where.found = [Found(Endpoint.parse("[2001:db8::1]:51820"), Kind.MAPPED, "portmap")]
    assert hints_of(where) == {"nat": [dependent, dependent]}
    where.found = [Found(HERE, Kind.MAPPED, "portmap")]
    assert hints_of(where) == {"nat": ["endpoint-independent", "endpoint-independent"]}


async def test_the_nonce_is_the_same_for_the_same_secret_and_place_only(clock, monkeypatch):
    monkeypatch.setattr("wgdisco.sources.portmap.is_private", lambda _: True)
    nonces = []
    async with FakeRouter() as fake:
        for secret, port in ((b"one", PORT), (b"one", PORT), (b"other", PORT), (b"one", 7), (b"", PORT), (b"", PORT)):
            await PortmapSource(port, lambda _: [fake.way], secret=secret, clock=clock).find(5)
            nonces.append(next(request[24:36] for request in reversed(fake.asked) if request[0] == 2))
    assert nonces[0] == nonces[1]
    assert len(set(nonces)) == 5
