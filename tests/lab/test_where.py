"""Where am I, in the lab: WireGuard's own port behind every NAT, in a full tunnel, under loss; real routes."""

import pytest

from tests.lab import where
from tests.lab.lab import SITES
from wgdisco.endpoint import Endpoint
from wgdisco.sources import Behaviour, Nat

pytestmark = pytest.mark.lab

INDEPENDENT, ADDRESS, BOTH = (
    Behaviour.ENDPOINT_INDEPENDENT,
    Behaviour.ADDRESS_DEPENDENT,
    Behaviour.ADDRESS_AND_PORT_DEPENDENT,
)
EXPECTED = {
    "public": Nat(INDEPENDENT, INDEPENDENT, False),
    "masq": Nat(INDEPENDENT, BOTH, True),
    "masq_open": Nat(INDEPENDENT, BOTH, True),
    "addrrest": Nat(INDEPENDENT, ADDRESS, True),
    "fullcone": Nat(INDEPENDENT, INDEPENDENT, True),
    "hairpin": Nat(INDEPENDENT, INDEPENDENT, True),
    "sym": Nat(BOTH, BOTH, True),
    "fw": Nat(INDEPENDENT, BOTH, False),
    "dbl_masq": Nat(INDEPENDENT, BOTH, True),
    "dbl_sym": Nat(BOTH, BOTH, True),
    "fw6": Nat(INDEPENDENT, BOTH, False),
}
SMOKE = {"public", "sym", "addrrest", "fw6"}
KINDS = [pytest.param(kind, marks=() if kind in SMOKE else pytest.mark.full) for kind in SITES]


def outer(host):
    """The address of a host that others see."""
    while hasattr(host, "network") and hasattr(host.network, "network") and host.network.profile != "fw":
        host = host.network
    return host.address


def place(server, kind="public"):
    return str(Endpoint.parse(f"[{server.place6[0]}]:{server.place6[1]}")) if kind == "fw6" else server.text


@pytest.mark.parametrize("kind", KINDS)
def test_every_nat_gets_its_verdict_from_wireguards_port(lab, kind):
    stun = lab.stun()
    host = lab.site("host", kind)
    host.wireguard("wg0")
    found = host.call(where.stun, [place(stun, kind)], 51820, 0, 8.0, True)
    assert found.nat == EXPECTED[kind]
    assert found.problems == []
    (reflexive,) = found.found
    assert str(reflexive.endpoint.address) == outer(host)
    if EXPECTED[kind].mapping is INDEPENDENT:  # masquerading keeps the port where it can
        assert reflexive.endpoint.port == 51820


def test_every_site_has_an_expected_verdict():
    assert set(EXPECTED) == set(SITES)


@pytest.mark.parametrize("kind", ["masq", pytest.param("sym", marks=pytest.mark.full)])
def test_two_plain_servers_tell_a_symmetric_nat_from_another(lab, kind):
    servers = [lab.stun("one").text, lab.stun("two").text]
    host = lab.site("host", kind)
    host.wireguard("wg0")
    found = host.call(where.stun, servers)
    assert found.nat == Nat(INDEPENDENT if kind == "masq" else ADDRESS, Behaviour.UNKNOWN, True)
    assert len(found.found) == (1 if kind == "masq" else 2)


def full_tunnel(lab):
    """A host whose every packet goes through its peer, as wg-quick sets it up; the peer's network is another one."""
    home, away = lab.router("home", "masq"), lab.router("away", "fullcone")
    host, peer = lab.host("host", home), lab.host("peer", away)
    inner, exit_ = host.wireguard("wg0", "10.9.0.1/24"), peer.wireguard("wg0", "10.9.0.2/24")
    there = peer.call(where.stun, [lab.stun("early").text]).found[0].endpoint
    exit_.peer(inner.public, "10.9.0.1/32")
    inner.peer(exit_.public, "0.0.0.0/0", endpoint=str(there), keepalive=25)
    inner.wait_handshake(exit_.public)
    inner.set("fwmark=51820")
    host.run("ip", "route", "add", "default", "dev", "wg0", "table", "51820")
    host.run("ip", "rule", "add", "not", "fwmark", "51820", "table", "51820")
    host.run("ip", "rule", "add", "table", "main", "suppress_prefixlength", "0")
    peer.sysctl("net/ipv4/ip_forward=1")
    peer.nft('table ip nat { chain p { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }; }')
    return host, peer, exit_


def test_in_a_full_tunnel_the_fwmark_tells_the_truth(lab):
    """Without the mark the question goes through the tunnel, and the answer is where the peer is."""
    stun = lab.stun()
    host, peer, _ = full_tunnel(lab)
    marked, unmarked = (host.call(where.stun, [stun.text], 51820, mark) for mark in (51820, 0))
    assert str(marked.found[0].endpoint.address) == host.network.address
    assert str(unmarked.found[0].endpoint.address) == peer.network.address
    assert host.call(where.addresses, 51820, ["0.0.0.0/0"]) == [host.address]


def test_in_a_full_tunnel_only_what_really_leaves_by_the_tunnel_is_refused(lab):
    host, _, exit_ = full_tunnel(lab)
    candidates = [
        f"{exit_.host.network.address}:51820",
        "192.168.77.1:51820",
        "10.9.0.2:51820",
        f"{host.address}:51820",
    ]
    through = "its route leaves by the WireGuard interface wg0"
    assert host.call(where.verdicts, candidates, 51820, ["0.0.0.0/0"]) == [
        None,
        None,
        through,
        "an address of this host",
    ]
    assert host.call(where.verdicts, candidates, 0, ["0.0.0.0/0"])[:3] == [through] * 3


def test_site_to_site_refuses_the_other_lan_and_keeps_our_own(lab):
    home = lab.router("home", "masq")
    host = lab.host("host", home)
    wg = host.wireguard("wg0", "10.9.0.1/24")
    host.ip("route add 192.168.50.0/24 dev wg0")
    lan = f"{home.lans[0][20]}:51820"
    broadcast = f"{home.lans[0].broadcast_address}:51820"
    candidates = ["192.168.50.7:51820", lan, broadcast, "192.168.51.7:51820", "[2001:db8::1]:51820"]
    allowed = ["192.168.50.0/24", str(home.lans[0]), "192.168.51.0/24"]
    assert host.call(where.verdicts, candidates, 0, allowed) == [
        "its route leaves by the WireGuard interface wg0",
        None,
        "a broadcast address",
        "inside AllowedIPs 192.168.51.0/24, and on no link of ours",
        "no IPv6 route",
    ]
    assert host.call(where.addresses) == [host.address]
    assert wg.peers() == {}


def test_junk_interfaces_of_a_real_host_are_left_out(lab):
    host = lab.host("host", lab.router("home", "masq", ipv6=True))
    host.wireguard("wg0", "10.9.0.1/24", "fd00:9::1/64")
    host.ip(
        "link add docker0 type bridge",
        "link set docker0 up",
        "address add 172.17.0.1/16 dev docker0",
        "link add veth1 type veth peer name veth2",
        "link set veth1 master docker0",
        "link set veth1 up",
        "link set veth2 up",
        "address add 10.244.0.1/24 dev veth2",
        "address add 10.1.1.1/32 dev lo",
        "address add 169.254.7.7/16 dev eth0",
    )
    assert host.call(where.addresses) == [str(address.ip) for address in host.addresses]


def test_the_temporary_address_that_is_in_use_comes_first(lab):
    host = lab.host("host", lab.router("home", "fw", ipv6=True))
    lines = ["address add 2001:db8:1::77/64 dev eth0 mngtmpaddr valid_lft 3600 preferred_lft 3600"]
    host.sysctl("net/ipv6/conf/eth0/use_tempaddr=2")
    host.ip(*lines)
    listed = host.run("ip", "-brief", "-6", "address", "show", "dev", "eth0", "temporary").stdout.split()
    (temporary,) = [each.split("/")[0] for each in listed[2:]]
    found = host.call(where.addresses)
    assert found[:2] == [host.address, temporary]
    assert "2001:db8:1::77" in found


def test_lost_datagrams_are_sent_again(lab):
    stun = lab.stun()
    host = lab.site("host", "masq")
    host.wireguard("wg0")
    host.cable.lose(30)
    assert host.call(where.ask_often, stun.text, 20) >= 15


def test_a_punch_with_a_low_ttl_opens_our_nat_and_ends_before_theirs(lab):
    """Two hops away is our own router's far side; the host on the internet sees only what lives longer."""
    host, peer = lab.site("host", "masq"), lab.public("peer")
    host.wireguard("wg0")
    with peer.socket() as there:
        there.bind((peer.address, 4000))
        there.settimeout(5)
        host.call(where.punch, f"{peer.address}:4000", [1, 2, None])
        seen = [there.recvfrom(100) for _ in range(2)]
    assert [data for data, _ in seen] == [b"2", b"None"]
    assert {source for _, source in seen} == {(host.network.address, 51820)}


def test_wireguard_neither_answers_nor_suffers(lab):
    """STUN beside a live tunnel changes nothing about it."""
    stun = lab.stun()
    one, other = lab.public("one"), lab.public("other")
    here, there = one.wireguard("wg0", "10.9.0.1/24"), other.wireguard("wg0", "10.9.0.2/24")
    here.peer(there.public, "10.9.0.2/32", endpoint=f"{other.address}:51820")
    there.peer(here.public, "10.9.0.1/32", endpoint=f"{one.address}:51820")
    assert one.ping("10.9.0.2")
    before = here.peers()[there.public]
    assert one.call(where.ask_often, stun.text, 50) == 50
    after = here.peers()[there.public]
    assert (after.endpoint, after.handshake) == (before.endpoint, before.handshake)
    assert one.ping("10.9.0.2")
