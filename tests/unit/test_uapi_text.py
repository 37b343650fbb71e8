"""The UAPI codec on recorded text and on nasty text."""

from ipaddress import IPv6Address, ip_network
from traceback import format_exception

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgdisco.device import Change, Peer
from wgdisco.device.uapi import encode_changes, encode_peer, parse_interface
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, UsageError
from wgdisco.keys import PrivateKey

PRIVATE = bytes(range(32))
KEY = PrivateKey(bytes(range(1, 33))).public
OTHER = PrivateKey(bytes(range(2, 34))).public
PRESHARED = bytes(range(100, 132))

# wireguard-go 0.0.20220316 said this (keys filled in)
ANSWER = f"""private_key={PRIVATE.hex()}
listen_port=51820
fwmark=51820
public_key={KEY.raw.hex()}
preshared_key={PRESHARED.hex()}
protocol_version=1
endpoint=[2001:db8::1]:1234
last_handshake_time_sec=1700000000
last_handshake_time_nsec=250000000
tx_bytes=148
rx_bytes=92
persistent_keepalive_interval=25
allowed_ip=10.0.0.0/24
allowed_ip=fd00::/64
public_key={OTHER.raw.hex()}
preshared_key={"0" * 64}
protocol_version=1
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=0
rx_bytes=0
persistent_keepalive_interval=0
errno=0

"""


def test_an_answer_becomes_an_interface():
    interface = parse_interface("wg0", ANSWER, 7)
    assert interface.name == "wg0"
    assert interface.index == 7
    assert interface.public == PrivateKey(PRIVATE).public
    assert (interface.listen_port, interface.fwmark, interface.refused) == (51820, 51820, ())
    assert interface.peers == {
        KEY: Peer(
            key=KEY,
            endpoint=Endpoint.parse("[2001:db8::1]:1234"),
            keepalive=25,
            allowed_ips=(ip_network("10.0.0.0/24"), ip_network("fd00::/64")),
            handshake=1700000000.25,
            rx=92,
            tx=148,
            preshared=PRESHARED,
        ),
        OTHER: Peer(key=OTHER),
    }


def test_an_interface_without_key_and_port_is_empty():
    interface = parse_interface("wg0", "errno=0\n\n")
    assert (interface.private, interface.public, interface.listen_port, interface.fwmark) == (None, None, 0, 0)
    assert interface.peers == {}


def test_a_peer_may_come_first_when_nothing_else_is_set():
    interface = parse_interface("wg0", f"public_key={KEY.raw.hex()}\nerrno=0\n\n")
    assert interface.peers == {KEY: Peer(key=KEY)}


def test_an_unusable_public_key_is_left_out_and_reported():
    answer = f"public_key={bytes(32).hex()}\nallowed_ip=10.0.0.9/32\npublic_key={KEY.raw.hex()}\nerrno=0\n\n"
    interface = parse_interface("wg0", answer)
    assert list(interface.peers) == [KEY]
    (sentence,) = interface.refused
    assert sentence.startswith("'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=' is no WireGuard public key: ")


def test_no_key_is_shown_by_repr():
    shown = repr(parse_interface("wg0", ANSWER))
    for secret in (PRIVATE, PRESHARED):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


@pytest.mark.parametrize("bad", [ANSWER.replace("=51820", "=x"), ANSWER.replace(PRIVATE.hex(), "zz")])
def test_an_answer_without_sense_is_refused_without_quoting_it(bad):
    with pytest.raises(AccessError) as caught:
        parse_interface("wg0", bad)
    assert str(caught.value) == "wg0: the answer of its program makes no sense (ValueError)"
    assert caught.value.__cause__ is None


@given(st.integers(0, len(ANSWER)), st.integers(0, 8), st.text("0123456789abcdefg=\n-é", max_size=8))
def test_no_damage_makes_another_error_or_one_that_shows_a_key(start, length, instead):
    damaged = ANSWER[:start] + instead + ANSWER[start + length :]
    try:
        parse_interface("wg0", damaged)
    except AccessError as error:
        told = "".join(format_exception(error))
        assert PRIVATE.hex() not in told
        assert PRESHARED.hex() not in told


def test_a_peer_that_roamed_to_port_0_has_no_endpoint():
    answer = f"public_key={KEY.raw.hex()}\nendpoint=192.0.2.1:0\nerrno=0\n\n"
    assert parse_interface("wg0", answer).peers == {KEY: Peer(KEY)}


def test_an_answer_without_errno_is_refused():
    with pytest.raises(AccessError, match="wg0: the answer of its program does not end with an errno"):
        parse_interface("wg0", "listen_port=1\n\n")


def test_a_cut_answer_is_refused():
    with pytest.raises(AccessError, match="wg0: its program closed the socket in the middle of an answer"):
        parse_interface("wg0", ANSWER[:200])


def test_a_refusal_names_its_errno():
    with pytest.raises(AccessError, match=r"wg0: its program refused the request: Invalid argument \(errno 22\)"):
        parse_interface("wg0", "errno=-22\n\n")


def test_changes_never_create_a_peer_and_put_the_endpoint_before_the_keepalive():
    changes = [Change(KEY, Endpoint.parse("[2001:db8::1]:9"), 0), Change(KEY, keepalive=25), Change(OTHER)]
    assert encode_changes(changes).decode() == (
        "set=1\n"
        f"public_key={KEY.raw.hex()}\nupdate_only=true\nendpoint=[2001:db8::1]:9\npersistent_keepalive_interval=0\n"
        f"public_key={KEY.raw.hex()}\nupdate_only=true\npersistent_keepalive_interval=25\n"
        f"public_key={OTHER.raw.hex()}\nupdate_only=true\n"
        "\n"
    )


def test_a_restart_is_one_request_that_removes_and_adds():
    peer = Peer(KEY, Endpoint.parse("192.0.2.1:9"), 25, (ip_network("10.0.0.0/24"),), preshared=PRESHARED)
    assert encode_peer(peer, remove=True).decode() == (
        "set=1\n"
        f"public_key={KEY.raw.hex()}\nremove=true\n"
        f"public_key={KEY.raw.hex()}\npreshared_key={PRESHARED.hex()}\nreplace_allowed_ips=true\n"
        "allowed_ip=10.0.0.0/24\nendpoint=192.0.2.1:9\npersistent_keepalive_interval=25\n"
        "\n"
    )


def test_putting_back_removes_nothing():
    assert b"remove" not in encode_peer(Peer(KEY), remove=False)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_no_change(port):
    with pytest.raises(UsageError, match="the port is not a number from 1 to 65535"):
        Change(KEY, Endpoint(Endpoint.parse("192.0.2.1:1").address, port))


@pytest.mark.parametrize("keepalive", [-1, 65536])
def test_a_keepalive_out_of_range_is_no_change(keepalive):
    with pytest.raises(UsageError, match=f"keepalive {keepalive}: expected a number of seconds from 0"):
        Change(KEY, keepalive=keepalive)


def test_a_scope_cannot_smuggle_a_line():
    """Python takes any text after the % of an address; in a request it would be a line of its own."""
    address = IPv6Address("fe80::1%eth0\nremove=true")
    with pytest.raises(UsageError, match="is no network interface"):
        Change(KEY, Endpoint(address, 1))


def test_an_address_is_never_text():
    with pytest.raises(UsageError, match="the address is not an IPv4Address or IPv6Address object"):
        Change(KEY, Endpoint("192.0.2.1\nremove=true", 1))


def test_peers_that_did_not_change_are_not_read_again():
    """Of thousands, few change between two readings."""
    other = PrivateKey(bytes([5] * 32)).public
    known: dict[str, Peer] = {}
    lines = [f"public_key={KEY.raw.hex()}\nrx_bytes=1\n", f"public_key={other.raw.hex()}\nrx_bytes=2\n"]
    before = parse_interface("wg0", f"{''.join(lines)}errno=0\n\n", 0, known).peers
    after = parse_interface("wg0", f"{lines[0]}{lines[1].replace('=2', '=3')}errno=0\n\n", 0, known).peers
    assert (after[KEY] is before[KEY], after[other].rx, len(known)) == (True, 3, 2)
    assert parse_interface("wg0", f"{lines[1]}errno=0\n\n", 0, known).peers == {other: before[other]}
    assert len(known) == 1
