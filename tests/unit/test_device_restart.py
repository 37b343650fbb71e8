"""What a restart of a peer refuses, and that it puts back what a transaction lost, on real wireguard-go."""

import time
from dataclasses import replace
from ipaddress import ip_network

import pytest
from wireguard_go import box

from wgdisco.device import LiveSession, Peer, is_live
from wgdisco.device.uapi import UserspaceDevice, encode_peer
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, UsageError
from wgdisco.keys import PrivateKey

PEER = PrivateKey(bytes([5] * 32)).public
PRESHARED = bytes(range(32))
NETWORKS = (ip_network("10.0.0.1/32"), ip_network("fd00::1/128"))
NOWHERE = Endpoint.parse("127.0.0.1:9")
NOW = 1_700_000_000.0


@pytest.fixture(scope="module")
def running():
    with box("wg0") as made:
        yield made


@pytest.fixture
def device(running):
    running.configure(
        "wg0",
        f"""private_key={bytes([4] * 32).hex()}
replace_peers=true
public_key={PEER.raw.hex()}
preshared_key={PRESHARED.hex()}
allowed_ip=10.0.0.1/32
allowed_ip=fd00::1/128""",
    )
    return running.device("wg0")


class Careless(UserspaceDevice):
    """Loses something of the peer in the first `times` transactions."""

    def __init__(self, device, change, times):
        super().__init__(device.name, device._path.parent)
        self.change, self.times = change, times

    def replace(self, peer, *, remove):
        if self.times == 0:
            super().replace(peer, remove=remove)
            return
        self.times -= 1
        lines = encode_peer(self.change(peer) or peer, remove=True)
        if self.change(peer) is None:
            lines = b"set=1\npublic_key=%s\nremove=true\n\n" % peer.key.raw.hex().encode()
        self._exchange(lines)


LOSSES = {
    "it is gone": lambda _: None,
    "preshared key": lambda peer: replace(peer, preshared=None),
    "allowed-ips": lambda peer: replace(peer, allowed_ips=NETWORKS[:1]),
    "keepalive": lambda peer: replace(peer, keepalive=0),
}


@pytest.mark.parametrize("lost", LOSSES)
def test_what_a_transaction_lost_is_put_back(device, lost):
    Careless(device, LOSSES[lost], times=3).restart_peer(PEER, NOWHERE, 25)
    found = device.read().peers[PEER]
    assert replace(found, tx=0) == Peer(PEER, NOWHERE, 25, NETWORKS, preshared=PRESHARED)


@pytest.mark.parametrize("lost", LOSSES)
def test_what_cannot_be_put_back_is_named_without_the_key(device, lost):
    with pytest.raises(AccessError) as caught:
        Careless(device, LOSSES[lost], times=9).restart_peer(PEER, NOWHERE, 25)
    assert str(caught.value) == (
        f"peer {PEER} of wg0 was restarted and could not be put back ({lost}); its allowed-ips were "
        "10.0.0.1/32, fd00::1/128: bring the interface up again from its configuration"
    )


class Refusing(UserspaceDevice):
    """Its program takes the removal and refuses the rest of the first transaction."""

    refused = False

    def replace(self, peer, *, remove):
        if self.refused:
            super().replace(peer, remove=remove)
            return
        self.refused = True
        raise AccessError(self._exchange(encode_peer(peer, remove=True).replace(b"preshared_key=", b"nonsense=")))


def test_after_a_refused_transaction_the_peer_is_put_back_and_the_refusal_told(device):
    with pytest.raises(AccessError, match="errno=-22"):
        Refusing("wg0", device._path.parent).restart_peer(PEER, NOWHERE, 25)
    found = device.read().peers[PEER]
    assert (found.preshared, found.allowed_ips) == (PRESHARED, NETWORKS)


def test_bytes_received_since_an_earlier_reading_refuse_a_restart(device):
    """The caller's word: the reading before was of fewer bytes."""
    earlier = replace(device.read().peers[PEER], rx=-1)
    with pytest.raises(LiveSession):
        device.restart_peer(PEER, NOWHERE, 25, since=earlier)
    assert device.read().peers[PEER].endpoint is None


@pytest.mark.parametrize(("port", "keepalive"), [(0, 25), (65536, 25), (9, -1), (9, 65536)])
def test_values_out_of_range_are_refused_before_anything_is_done(device, port, keepalive):
    with pytest.raises(UsageError):
        device.restart_peer(PEER, Endpoint(NOWHERE.address, port), keepalive)
    assert device.read().peers[PEER].endpoint is None


@pytest.mark.parametrize(
    ("age", "live"),
    [(0, True), (134.9, True), (135, False), (3600, False), (-3600, True)],
    ids=["now", "just live", "just over", "long over", "the clock was set back"],
)
def test_a_young_handshake_is_a_live_session(age, live):
    assert is_live(Peer(PEER, handshake=NOW - age), None, NOW) is live


def test_no_handshake_is_no_session():
    assert not is_live(Peer(PEER), None, NOW)


def test_a_session_that_receives_is_live_whatever_the_clock_says():
    old = Peer(PEER, handshake=NOW - 3600, rx=10)
    assert is_live(replace(old, rx=11), old, NOW)
    assert not is_live(old, old, time.time())
