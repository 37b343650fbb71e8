"""Which of a host's addresses are worth telling a peer: a table of links and addresses, and this kernel's own."""

import os
import socket
from ipaddress import ip_address, ip_network

import pytest

from wgdisco.device.routes import Route, Routes
from wgdisco.device.rtnetlink import Held, Link, RouteNetlink
from wgdisco.record import Kind
from wgdisco.sources.interface import InterfaceSource, worthwhile

ON = 0x1 | 0x40
WAY = Route("eth0", ip_address("192.0.2.10"), on_link=False)
WAY_V6 = Route("eth0", ip_address("2001:db8::7"), on_link=False)


def link(index, name, kind="", flags=ON, master=0):
    return Link(index, name, flags, kind, master)


ETH0 = link(2, "eth0")


def texts(links, *held, ways=(WAY, WAY_V6), allowed=()):
    addresses = [Held(ip_address(text), index, flags, scope) for text, index, flags, scope in held]
    return [str(address) for address, _ in worthwhile(links, addresses, ways, [ip_network(each) for each in allowed])]


@pytest.mark.parametrize(
    ("name", "kind", "flags"),
    [
        ("lo", "", ON | 0x8),
        ("eth1", "", 0x1),  # no carrier
        ("eth1", "", 0),  # down
        ("wg0", "wireguard", ON),
        ("tun0", "tun", ON),
        ("docker0", "bridge", ON),
        ("br-0123456789ab", "bridge", ON),
        ("cni0", "bridge", ON),
        ("virbr0", "bridge", ON),
        ("cali12345", "veth", ON),
        ("flannel.1", "vxlan", ON),
        ("kube-ipvs0", "dummy", ON),
        ("he-ipv6", "sit", ON),
    ],
)
def test_junk_interfaces_are_left_out(name, kind, flags):
    assert texts([ETH0, link(3, name, kind, flags)], ("10.1.2.3", 3, 0, 0)) == []


@pytest.mark.parametrize("kind", ["", "vlan", "bond", "team", "macvlan", "ipvlan", "ppp", "wwan", "dsa"])
def test_interfaces_of_the_host_s_own_network_are_kept(kind):
    assert texts([link(3, "x", kind)], ("10.1.2.3", 3, 0, 0)) == ["10.1.2.3"]


def test_a_bridge_with_a_real_port_is_the_lan():
    """br-lan of a router, br0 of a host with virtual machines; a bridge of containers has no such port."""
    bridge, container, machine = link(3, "br0", "bridge"), link(4, "veth1", "veth", ON, 3), link(5, "tap", "tun", ON, 3)
    held = ("192.168.1.1", 3, 0, 0)
    assert texts([bridge, container, machine], held) == []
    assert texts([bridge, container, link(6, "lan1", "", ON, 3)], held) == ["192.168.1.1"]


@pytest.mark.parametrize("kind", ["veth", "bridge", "sit"])
def test_the_way_out_counts_whatever_it_is(kind):
    """Inside a container the only interface is a veth; behind a 6in4 tunnel the global address is on it."""
    assert texts([link(2, "eth0", kind)], ("10.1.2.3", 2, 0, 0)) == ["10.1.2.3"]


@pytest.mark.parametrize("kind", ["wireguard", "tun"])
def test_a_tunnel_never_counts_even_as_the_way_out(kind):
    assert texts([link(2, "eth0", kind)], ("10.1.2.3", 2, 0, 0)) == []


@pytest.mark.parametrize(
    ("address", "flags", "scope"),
    [
        ("169.254.3.4", 0, 253),
        ("169.254.3.4", 0, 0),
        ("fe80::1", 0, 253),
        ("127.0.0.1", 0, 254),
        ("2001:db8::1", 0x20, 0),  # deprecated
        ("2001:db8::1", 0x40, 0),  # tentative
        ("2001:db8::1", 0x08, 0),  # duplicate
        ("192.0.2.10", 0x20, 0),
        ("2001:db8::1", 0x01, 0),  # temporary, and not the one the kernel sends from
    ],
)
def test_addresses_that_do_not_last_or_do_not_travel_are_left_out(address, flags, scope):
    assert texts([ETH0], (address, 2, flags, scope)) == []


def test_the_address_the_kernel_sends_from_comes_first_be_it_temporary():
    stable, temporary = ("2001:db8::1", 2, 0x80, 0), ("2001:db8::7", 2, 0x01, 0)
    old = ("2001:db8::8", 2, 0x01, 0)
    assert texts([ETH0], stable, old, temporary) == ["2001:db8::7", "2001:db8::1"]


def test_private_addresses_and_secondary_ones_are_host_candidates():
    held = [("192.168.1.2", 2, 0, 0), ("192.168.1.3", 2, 0x01, 0), ("fd00::1", 2, 0, 0), ("100.64.0.1", 2, 0, 0)]
    assert texts([ETH0], *held) == ["192.168.1.2", "192.168.1.3", "fd00::1", "100.64.0.1"]


def test_an_address_that_belongs_to_a_tunnel_is_left_out():
    held = [("10.8.0.1", 2, 0, 0), ("192.168.1.2", 2, 0, 0)]
    assert texts([ETH0], *held, allowed=["10.8.0.0/24", "0.0.0.0/0"]) == ["192.168.1.2"]


def test_the_program_of_a_userspace_interface_gives_it_away(tmp_path, monkeypatch):
    monkeypatch.setattr("wgdisco.device.routes.UAPI_FOLDER", tmp_path)
    assert texts([ETH0, link(3, "wg0", "")], ("10.1.2.3", 3, 0, 0)) == ["10.1.2.3"]
    (tmp_path / "wg0.sock").touch()
    assert texts([ETH0, link(3, "wg0", "")], ("10.1.2.3", 3, 0, 0)) == []


async def test_this_host_is_read_and_no_loopback_is_in_it():
    where = await InterfaceSource(51820).find(1)
    assert where.problems == []
    assert {found.kind for found in where.found} <= {Kind.HOST}
    assert {found.endpoint.port for found in where.found} <= {51820}
    assert not [found for found in where.found if found.endpoint.address.is_loopback]


# ---- the kernel's answers


@pytest.fixture
def netlink():
    with RouteNetlink() as opened:
        yield opened


def test_the_links_are_those_the_kernel_lists(netlink):
    assert {(each.number, each.name) for each in netlink.links()} == set(socket.if_nameindex())


def test_the_loopback_addresses_are_held_by_the_loopback_link(netlink):
    (loopback,) = [each for each in netlink.links() if each.flags & 0x8]
    held = {str(each.address) for each in netlink.addresses() if each.number == loopback.number}
    assert "127.0.0.1" in held
    assert netlink.link(loopback.number) == loopback


def test_an_unknown_link_is_an_oserror(netlink):
    with pytest.raises(OSError, match=os.strerror(19)):
        netlink.link(2**30)


def test_a_dump_that_a_change_interrupted_is_asked_again(netlink, monkeypatch):
    real, times = netlink._messages, []

    def interrupted():
        times.append(1)
        for message in real():
            yield message._replace(flags=message.flags | (0x10 if len(times) < 3 else 0))

    monkeypatch.setattr(netlink, "_messages", interrupted)
    assert netlink.links()
    assert len(times) == 3


@pytest.mark.parametrize(
    ("address", "ours", "one"), [("127.0.0.9", True, True), ("::1", True, True), ("127.255.255.255", False, False)]
)
def test_a_route_says_what_is_ours_and_what_is_no_single_host(address, ours, one):
    routes = Routes()
    try:
        route = routes.lookup(ip_address(address))
        assert (route.interface, route.ours, route.one, route.wireguard) == ("lo", ours, one, False)
        assert routes.source(ip_address(address)) == route.source
    finally:
        routes.close()
