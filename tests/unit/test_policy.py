"""Which endpoints may be published, and which may be tried, with the reason when not."""

from ipaddress import ip_address, ip_network

import pytest

from wgdisco.device.routes import Route, Routes
from wgdisco.endpoint import Endpoint
from wgdisco.policy import Ground, Sites, inside, is_plausible, is_private, publishable, refused, supposed, tryable
from wgdisco.record import Candidate, Kind
from wgdisco.sources import Found

SOURCE = ip_address("192.168.1.10")


def lookup(address):
    """A full-tunnel host on 192.168.1.0/24 whose WireGuard interface also has a route to 10.8.0.0/24; no IPv6 but ULA."""
    if address in (SOURCE, ip_address("10.8.0.1"), ip_address("198.51.100.20")):
        return Route("lo", address, ours=True)
    if address == ip_address("192.168.1.255"):
        return Route("eth0", SOURCE, one=False)
    if address in ip_network("192.168.1.0/24"):
        return Route("eth0", SOURCE)
    if address in ip_network("10.8.0.0/24"):
        return Route("wg0", ip_address("10.8.0.1"), wireguard=True)
    if address in ip_network("fd00::/8"):
        return Route("eth0", ip_address("fd00::1"))
    return Route("eth0", SOURCE, on_link=False) if address.version == 4 else None


OURS = Endpoint.parse("203.0.113.7:51820")
ALLOWED = [ip_network(each) for each in ("0.0.0.0/0", "::/0", "10.8.0.2/32", "192.168.2.0/24", "192.168.1.0/24")]
GROUND = Ground(lookup, [OURS], ALLOWED)

TABLE = [
    # what may be tried: public, private of ours and of others, carrier NAT, ULA
    ("192.0.2.1", None),
    ("198.51.100.21", None),
    ("203.0.113.7", "our own endpoint"),
    ("8.8.8.8", None),
    ("1.1.1.1", None),
    ("126.255.255.255", None),
    ("128.0.0.1", None),
    ("169.253.0.1", None),
    ("169.255.0.1", None),
    ("223.255.255.255", None),
    ("192.168.1.20", None),
    ("192.168.1.254", None),
    ("192.168.3.1", None),
    ("10.0.0.1", None),
    ("10.255.255.254", None),
    ("172.16.0.1", None),
    ("172.31.255.254", None),
    ("100.64.0.1", None),
    ("100.127.255.254", None),
    ("fd00::5", None),
    ("fdff:ffff::1", None),
    # ours, on our link's edge, or through WireGuard
    ("192.168.1.10", "an address of this host"),
    ("198.51.100.20", "an address of this host"),
    ("10.8.0.1", "an address of this host"),
    ("192.168.1.255", "a broadcast address"),
    ("10.8.0.2", "its route leaves by the WireGuard interface wg0"),
    ("10.8.0.77", "its route leaves by the WireGuard interface wg0"),
    ("192.168.2.9", "inside AllowedIPs 192.168.2.0/24, and on no link of ours"),
    # a family without a route
    ("2001:db8::1", "no IPv6 route"),
    ("2a00::1", "no IPv6 route"),
    ("3fff::1", "no IPv6 route"),
    ("64:ff9b::c000:201", "no IPv6 route"),
    ("64:ff9b:1::1", "no IPv6 route"),
    ("2002:c000:201::1", "no IPv6 route"),
    # never
    ("0.0.0.0", "the unspecified address"),
    ("::", "the unspecified address"),
    ("0.0.0.1", "reserved"),
    ("0.255.255.255", "reserved"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("::1", "loopback"),
    ("169.254.0.1", "link-local"),
    ("169.254.169.254", "link-local"),
    ("fe80::1", "link-local"),
    ("febf::1", "link-local"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("ff02::1", "multicast"),
    ("ff0e::1", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.254", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::ffff:192.0.2.1", "an IPv4 address written as IPv6"),
    ("::ffff:127.0.0.1", "an IPv4 address written as IPv6"),
    ("::192.0.2.1", "reserved"),
    ("100::1", "reserved"),
    ("fec0::1", "reserved"),
    ("4000::1", "reserved"),
    ("fe00::1", "reserved"),
    ("64:ff9b::7f00:1", "the IPv4 address in it is loopback"),
    ("64:ff9b::e000:1", "the IPv4 address in it is multicast"),
    ("2002:7f00:1::1", "the IPv4 address in it is loopback"),
    ("2002:a9fe:a9fe::1", "the IPv4 address in it is link-local"),
]


@pytest.mark.parametrize(("address", "reason"), TABLE)
def test_every_address_is_tried_or_has_its_reason(address, reason):
    candidate = Candidate(Kind.HOST, Endpoint(ip_address(address), 51820))
    assert tryable([candidate], GROUND) == [(candidate, reason)]


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port):
    candidate = Candidate(Kind.MAPPED, Endpoint(ip_address("192.0.2.1"), port))
    assert tryable([candidate], GROUND) == [(candidate, f"port {port}")]


def test_another_port_of_our_own_public_address_is_tried():
    """Two homes behind one carrier NAT, or two hosts behind one router that hairpins."""
    candidate = Candidate(Kind.SERVER_REFLEXIVE, Endpoint(OURS.address, OURS.port + 1))
    assert tryable([candidate], GROUND) == [(candidate, None)]


def test_a_repeated_endpoint_is_tried_once():
    first = Candidate(Kind.HOST, Endpoint.parse("192.0.2.1:1"))
    again = Candidate(Kind.MAPPED, Endpoint.parse("192.0.2.1:1"))
    assert tryable([first, again], GROUND) == [(first, None), (again, "named twice")]


def test_the_kernel_s_own_routes_say_what_is_ours():
    routes = Routes()
    try:
        candidate = Candidate(Kind.HOST, Endpoint.parse("[fd00:dead:beef::1]:1"))
        ((_, reason),) = tryable([candidate], Ground(lambda _: routes.lookup(ip_address("127.0.0.5"))))
        assert reason == "an address of this host"
    finally:
        routes.close()


@pytest.mark.parametrize(
    ("address", "allowed", "found"),
    [
        ("192.168.2.9", "192.168.2.0/24", "192.168.2.0/24"),
        ("192.168.2.9", "192.168.0.0/16", "192.168.0.0/16"),
        ("100.64.0.9", "100.64.0.0/10", "100.64.0.0/10"),
        ("fd01::9", "fd01::/64", "fd01::/64"),
        ("192.168.2.9", "0.0.0.0/0", None),  # a full tunnel
        ("192.168.2.9", "128.0.0.0/1", None),  # a full tunnel in two halves
        ("192.168.2.9", "192.0.0.0/8", None),  # a full tunnel in many pieces
        ("192.0.2.9", "192.0.2.0/24", None),  # public addresses are decided by their route
        ("fd01::9", "::/0", None),
        ("192.168.2.9", "fd01::/64", None),
    ],
)
def test_only_private_allowed_ips_claim_an_address(address, allowed, found):
    assert inside(ip_address(address), [ip_network(allowed)]) == (ip_network(found) if found else None)


def test_of_several_allowed_ips_the_narrowest_counts():
    """As WireGuard chooses the peer; asked of a thousand networks at once."""
    networks = [ip_network(f"10.{number // 256}.{number % 256}.0/24") for number in range(1000)]
    sites = Sites([ip_network("10.0.0.0/8"), *networks, ip_network("10.1.2.3/32"), ip_network("fd01::/64")])
    asked = ["10.1.2.3", "10.1.2.4", "10.9.0.1", "11.0.0.1", "fd01::9", "fd02::9", "::a01:203"]
    found = [sites.around(ip_address(each)) for each in asked]
    assert list(map(str, found)) == ["10.1.2.3/32", "10.1.2.0/24", "10.0.0.0/8", "None", "fd01::/64", "None", "None"]


def test_private_means_of_one_site():
    private = ["10.0.0.1", "172.20.0.1", "192.168.9.9", "100.100.0.1", "fd00::1", "fc00::1"]
    public = ["172.32.0.1", "100.128.0.1", "192.0.2.1", "203.0.113.1", "2001:db8::1", "fe80::1"]
    assert [each for each in private + public if is_private(ip_address(each))] == private


@pytest.mark.parametrize(
    ("said", "by", "plausible"),
    [
        ("192.0.2.1:5", "198.51.100.1:3478", True),
        ("192.168.1.5:5", "198.51.100.1:3478", False),
        ("192.168.1.5:5", "192.168.1.1:3478", True),
        ("127.0.0.1:5", "198.51.100.1:3478", False),
        ("127.0.0.1:5", "127.0.0.2:3478", True),
        ("192.168.1.5:5", "127.0.0.1:3478", True),
        ("224.0.0.1:5", "127.0.0.1:3478", False),
        ("192.0.2.1:0", "198.51.100.1:3478", False),
    ],
)
def test_what_a_server_may_say(said, by, plausible):
    address, _, port = said.rpartition(":")
    assert is_plausible(Endpoint(ip_address(address), int(port)), Endpoint.parse(by)) is plausible


def test_refusing_needs_no_ground():
    assert refused(Endpoint.parse("127.0.0.1:1")) == "loopback"
    assert refused(Endpoint.parse("192.0.2.1:1")) is None


# ---- publishing


def found(kind, *texts):
    return [Found(Endpoint.parse(text), kind, "test") for text in texts]


LAN = found(Kind.HOST, "192.168.1.10:1", "[fd00::1]:1")
GLOBAL = found(Kind.HOST, "[2001:db8::1]:1")
REFLEXIVE = found(Kind.SERVER_REFLEXIVE, "203.0.113.7:1")
MAPPED = found(Kind.MAPPED, "203.0.113.7:2")
OBSERVED = found(Kind.OBSERVED, "203.0.113.7:3")


def texts(candidates):
    return [str(candidate.endpoint) for candidate in candidates]


def test_the_best_comes_first():
    best = [*LAN, *GLOBAL, *REFLEXIVE, *MAPPED, *OBSERVED]
    assert publishable(reversed(best[1:]))[0].endpoint == LAN[1].endpoint
    assert publishable([*OBSERVED, *MAPPED, *REFLEXIVE, *GLOBAL, *LAN]) == [
        Candidate(each.kind, each.endpoint) for each in best
    ]


def test_the_key_audience_learns_no_host_candidate_unless_exposed():
    everything = [*LAN, *GLOBAL, *REFLEXIVE, *MAPPED]
    assert texts(publishable(everything, "key")) == ["203.0.113.7:1", "203.0.113.7:2"]
    assert publishable(everything, "key", expose_hosts=True) == publishable(everything, "peers")


def test_a_host_address_seen_from_outside_is_reflexive_and_keeps_its_place():
    seen = found(Kind.SERVER_REFLEXIVE, "[2001:db8::1]:1")
    expected = Candidate(Kind.SERVER_REFLEXIVE, GLOBAL[0].endpoint)
    assert publishable([*REFLEXIVE, *GLOBAL, *seen])[0] == expected
    assert publishable([*GLOBAL, *seen], "key") == [expected]


def test_what_nobody_would_try_is_not_published():
    assert publishable(found(Kind.MAPPED, "127.0.0.1:1", "169.254.1.1:1", "[::ffff:1.2.3.4]:1", "0.0.0.0:1")) == []


def test_many_of_one_kind_push_none_of_another_out():
    hosts = found(Kind.HOST, *(f"10.0.{n}.1:1" for n in range(40)), *(f"[2001:db8::{n + 1}]:1" for n in range(40)))
    others = [
        each for kind in list(Kind)[1:] for each in found(kind, *(f"203.0.113.{n}:{1 + kind}" for n in range(40)))
    ]
    published = publishable([*hosts, *others])
    assert len(published) == 16
    assert {candidate.kind for candidate in published[:16]} >= {Kind.HOST, Kind.SERVER_REFLEXIVE, Kind.MAPPED}
    assert publishable([*hosts, *OBSERVED, *MAPPED])[-2:] == [
        Candidate(e.kind, e.endpoint) for e in (*MAPPED, *OBSERVED)
    ]


def test_a_nat_that_keeps_ports_may_have_kept_it_towards_us() -> None:
    """Of an IPv4 address that others saw, with the host's own port; whatever is named anyway is not guessed."""
    host, other = Candidate(Kind.HOST, Endpoint.parse("192.168.1.5:51820")), Endpoint.parse("203.0.113.1:51820")
    seen = Candidate(Kind.SERVER_REFLEXIVE, Endpoint.parse("203.0.113.1:40000"))
    assert [each.endpoint for each in supposed([host, seen])] == [other]
    assert supposed([host, seen, Candidate(Kind.MAPPED, other)]) == []
    assert supposed([seen]) == []
    assert supposed([host]) == []
    assert supposed([host, Candidate(Kind.SERVER_REFLEXIVE, Endpoint.parse("[2001:db8::1]:40000"))]) == []
