"""The netlink codec on bytes recorded from Linux 6.1 (tests/kernel/run.sh --record), and what this kernel answers."""

import errno
import socket
from ipaddress import ip_network
from pathlib import Path

import pytest
from pyroute2.netlink.generic.wireguard import wgmsg

from wgdisco.device import Change, Interface, Peer, genetlink, kernel, netlink
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, NoDevice
from wgdisco.keys import PrivateKey

KEY, SILENT, SECRET = (PrivateKey(bytes([number] * 32)) for number in (2, 8, 1))
PRESHARED = bytes(range(32))
MANY = [PrivateKey(number.to_bytes(32, "big")).public for number in range(1, 2001)]
NOWHERE = Endpoint.parse("127.0.0.1:9")


def recorded():
    """Per scene: what was sent and what came, in order."""
    scenes = {}
    for line in Path(__file__).with_name("netlink_recorded.txt").read_text().splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "#":
            scene = scenes[rest] = {">": [], "<": []}
        elif mark in "<>":
            scene[mark].append(bytes.fromhex(rest))
    return scenes


SCENES = recorded()
FAMILY = 0x20  # what this kernel called the family `wireguard`


def payloads(scene, kind=FAMILY):
    found = [message for data in SCENES[scene]["<"] for message in genetlink.messages(data)]
    return [message.payload for message in found if message.kind == kind]


def test_a_dump_becomes_an_interface_and_a_split_peer_is_put_together():
    assert len(payloads("read")) == 2
    interface = kernel.parse_interface(payloads("read"))
    talking = interface.peers[KEY.public]
    assert talking.handshake > 1_500_000_000
    assert interface == Interface(
        name="wg0",
        public=SECRET.public,
        listen_port=51820,
        fwmark=51820,
        index=interface.index,
        peers={
            SILENT.public: Peer(
                SILENT.public,
                Endpoint.parse("[2001:db8::1]:7"),
                allowed_ips=tuple(ip_network(f"fd00::{n:x}/128") for n in range(1, 121)),
            ),
            KEY.public: Peer(
                KEY.public,
                Endpoint.parse("127.0.0.1:51821"),
                25,
                (ip_network("10.0.0.1/32"),),
                talking.handshake,
                talking.rx,
                talking.tx,
                PRESHARED,
            ),
        },
    )
    assert interface.private.public == SECRET.public


def test_the_same_interface_in_one_message_is_the_same():
    whole, split = kernel.parse_interface(payloads("restart")), kernel.parse_interface(payloads("read"))
    assert len(payloads("restart")) == 1
    assert whole.peers[SILENT.public].allowed_ips == split.peers[SILENT.public].allowed_ips


def test_no_key_is_shown_by_repr():
    shown = repr(kernel.parse_interface(payloads("read")))
    assert repr(PRESHARED) not in shown
    assert repr(bytes([1] * 32)) not in shown


def test_an_update_is_the_bytes_that_the_kernel_took():
    (payload,) = kernel.encode_changes("wg0", [Change(SILENT.public, NOWHERE, 0), Change(SILENT.public, keepalive=25)])
    assert genetlink.encode_message(FAMILY, genetlink.ACK, 2, payload) == SCENES["update"][">"][-1]
    assert [message.error for message in genetlink.messages(SCENES["update"]["<"][-1])] == [0]


def test_a_restart_is_the_bytes_that_the_kernel_took():
    peer = kernel.parse_interface(payloads("restart")).peers[KEY.public]
    (payload,) = kernel.encode_peer("wg0", peer, remove=True)
    assert genetlink.encode_message(FAMILY, genetlink.ACK, 2, payload) == SCENES["restart"][">"][-1]


def test_a_refusal_carries_its_errno():
    (message,) = genetlink.messages(SCENES["refused"]["<"][-1])
    assert (message.ends, message.error) == (True, errno.EOPNOTSUPP)


def test_the_family_is_found():
    (answer, *_) = genetlink.messages(SCENES["read"]["<"][0])
    assert genetlink.parse_family(answer.payload) == FAMILY
    assert genetlink.encode_family_request("wireguard", 1) == SCENES["read"][">"][0]


def test_an_acknowledgement_ends_a_request_and_repeats_no_key():
    (message,) = genetlink.messages(SCENES["restart"]["<"][-1])
    assert message.ends
    assert len(message.payload) == 4 + 16  # the errno and the request's header


@pytest.mark.parametrize("cut", [1, 17, 100, 1000])
def test_cut_bytes_are_refused(cut):
    data = SCENES["read"]["<"][2]
    with pytest.raises(ValueError, match="claims"):
        list(genetlink.messages(data[:-cut]))
    with pytest.raises(ValueError, match="claims"):
        kernel.parse_interface([payloads("read")[0][:-cut]])


def test_an_attribute_without_length_is_refused():
    with pytest.raises(ValueError, match="attribute 1 claims 0 bytes of 8"):
        list(genetlink.attributes(b"\0\0\1\0\0\0\0\0"))


def test_a_message_without_length_is_refused():
    with pytest.raises(ValueError, match="a netlink message claims 0 bytes of 16"):
        list(genetlink.messages(bytes(16)))


def test_an_unusable_public_key_is_left_out_and_reported():
    payload = kernel.encode_peer("wg0", Peer(KEY.public), remove=False)[0]
    interface = kernel.parse_interface([payload.replace(KEY.public.raw, bytes(32))])
    assert interface.peers == {}
    assert "is no WireGuard public key" in interface.refused[0]


def test_a_peer_that_roamed_to_port_0_has_no_endpoint():
    payload = kernel.encode_peer("wg0", Peer(KEY.public, NOWHERE), remove=False)[0]
    at_port_0 = payload.replace(b"\0\x09\x7f\0\0\1", b"\0\0\x7f\0\0\1")
    assert at_port_0 != payload
    assert kernel.parse_interface([at_port_0]).peers[KEY.public].endpoint is None


def decoded(payload):
    """The request as pyroute2 reads it."""
    message = wgmsg(genetlink.encode_message(FAMILY, 0, 1, payload))
    message.decode()
    return message


def test_a_restart_means_to_others_what_it_means_to_us():
    networks = (ip_network("10.0.0.0/24"), ip_network("fd00::/64"))
    peer = Peer(KEY.public, Endpoint.parse("[2001:db8::1]:7"), 25, networks, preshared=PRESHARED)
    (payload,) = kernel.encode_peer("wg0", peer, remove=True)
    message = decoded(payload)
    assert message["cmd"] == kernel.SET_DEVICE
    assert message.get_attr("WGDEVICE_A_IFNAME") == "wg0"
    removed, added = message.get_attr("WGDEVICE_A_PEERS")
    assert dict(removed["attrs"]) == {
        "WGPEER_A_PUBLIC_KEY": str(KEY.public).encode(),
        "WGPEER_A_FLAGS": kernel.REMOVE_ME,
    }
    assert added.get_attr("WGPEER_A_PUBLIC_KEY") == str(KEY.public).encode()
    assert added.get_attr("WGPEER_A_FLAGS") == kernel.REPLACE_ALLOWED_IPS
    assert added.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") == 25
    assert [entry["addr"] for entry in added.get_attr("WGPEER_A_ALLOWEDIPS")] == ["10.0.0.0/24", "fd00::/64"]
    endpoint = added.get_attr("WGPEER_A_ENDPOINT")
    assert (endpoint["family"], endpoint["addr"], endpoint["port"]) == (socket.AF_INET6, "2001:db8::1", 7)


def test_many_changes_fill_several_messages_in_order_and_create_nothing():
    requests = kernel.encode_changes("wg0", [Change(key, NOWHERE, 25) for key in MANY])
    assert [len(request) < 1 << 16 for request in requests] == [True] * 3
    peers = [peer for request in requests for peer in decoded(request).get_attr("WGDEVICE_A_PEERS")]
    assert [peer.get_attr("WGPEER_A_PUBLIC_KEY").decode() for peer in peers] == list(map(str, MANY))
    assert {peer.get_attr("WGPEER_A_FLAGS") for peer in peers} == {kernel.UPDATE_ONLY}


def test_no_change_is_no_message():
    assert kernel.encode_changes("wg0", []) == []


def test_a_peer_with_many_allowed_ips_is_removed_once_and_gets_its_keepalive_last():
    networks = tuple(ip_network(f"fd00::{n:x}/128") for n in range(3500))
    requests = kernel.encode_peer("wg0", Peer(KEY.public, NOWHERE, 25, networks), remove=True)
    flags = [[p.get_attr("WGPEER_A_FLAGS") for p in decoded(r).get_attr("WGDEVICE_A_PEERS")] for r in requests]
    assert flags == [[kernel.REMOVE_ME, kernel.REPLACE_ALLOWED_IPS], [kernel.UPDATE_ONLY], [kernel.UPDATE_ONLY]]
    assert kernel.parse_interface(requests).peers[KEY.public] == Peer(KEY.public, NOWHERE, 25, networks)
    last = [decoded(r).get_attr("WGDEVICE_A_PEERS")[-1] for r in requests]
    assert [peer.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") for peer in last] == [None, None, 25]


def test_links_are_listed_by_this_kernel():
    assert "lo" not in netlink.list_links()


def has_wireguard():
    with netlink._Netlink(netlink.NETLINK_GENERIC) as opened:
        try:
            netlink._family(opened)
        except AccessError:
            return False
        return True


def test_a_kernel_without_wireguard_says_so():
    device = netlink.KernelDevice("lo")
    if has_wireguard():
        with pytest.raises(NoDevice, match="'lo' is no WireGuard interface"):
            device.read()
    else:
        with pytest.raises(
            AccessError, match="this kernel has no WireGuard: `modprobe wireguard`, or run wireguard-go"
        ):
            device.read()
