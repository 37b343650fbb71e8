"""The Device protocol over real wireguard-go."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from ipaddress import ip_network

import pytest
from wireguard_go import box

from wgdisco.device import Change, Interface, LiveSession, Peer, list_devices, open_device, shared, uapi
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, NoDevice, UsageError
from wgdisco.keys import PrivateKey

SECRET = {name: bytes([n] * 32) for n, name in enumerate(("wg0", "wg1"), 1)}
PRIVATE = {name: PrivateKey(secret) for name, secret in SECRET.items()}
PEER = PRIVATE["wg1"].public
STRANGER = PrivateKey(bytes([9] * 32)).public
SILENT = PrivateKey(bytes([8] * 32)).public
PRESHARED = bytes(range(32))
NOWHERE = Endpoint.parse("127.0.0.1:9")


@pytest.fixture(scope="module")
def running():
    with box("wg0", "wg1") as made:
        yield made


@pytest.fixture
def wg0(running):
    """wg0 with two peers: wg1 without endpoint, and one that never answers."""
    running.configure(
        "wg0",
        f"""private_key={SECRET["wg0"].hex()}
listen_port=51820
replace_peers=true
public_key={PEER.raw.hex()}
preshared_key={PRESHARED.hex()}
allowed_ip=10.0.0.1/32
allowed_ip=fd00::1/128
public_key={SILENT.raw.hex()}
allowed_ip=10.0.0.2/32""",
    )
    running.configure(
        "wg1",
        f"""private_key={SECRET["wg1"].hex()}
listen_port=51821
replace_peers=true
public_key={PRIVATE["wg0"].public.raw.hex()}
preshared_key={PRESHARED.hex()}
allowed_ip=10.0.0.0/32""",
    )
    return running.device("wg0")


def handshake(device, key, timeout=10):
    """Wait until the peer's handshake is done and return the reading."""
    deadline = time.monotonic() + timeout
    while not (peer := device.read().peers[key]).handshake:
        assert time.monotonic() < deadline, "no handshake"
        time.sleep(0.01)
    return peer


def test_read_says_what_is_set(wg0):
    interface = wg0.read()
    assert interface.private.public == interface.public == PRIVATE["wg0"].public
    assert interface.listen_port == 51820
    assert interface.peers == {
        PEER: Peer(PEER, allowed_ips=(ip_network("10.0.0.1/32"), ip_network("fd00::1/128")), preshared=PRESHARED),
        SILENT: Peer(SILENT, allowed_ips=(ip_network("10.0.0.2/32"),)),
    }


def test_fwmark_is_read(running, wg0):
    running.configure("wg0", "fwmark=51820")
    marked = wg0.read().fwmark
    running.configure("wg0", "fwmark=0")
    assert (marked, wg0.read().fwmark) == (51820, 0)


def test_update_sets_endpoint_and_keepalive_and_leaves_the_rest(wg0):
    before = wg0.read().peers
    wg0.update([Change(SILENT, NOWHERE), Change(PEER, Endpoint.parse("[::1]:9"), keepalive=7)])
    after = wg0.read().peers
    assert (after[SILENT].endpoint, after[SILENT].keepalive) == (NOWHERE, 0)
    assert (after[PEER].endpoint, after[PEER].keepalive) == (Endpoint.parse("[::1]:9"), 7)
    assert {key: (peer.allowed_ips, peer.preshared) for key, peer in after.items()} == {
        key: (peer.allowed_ips, peer.preshared) for key, peer in before.items()
    }


def test_update_never_creates_a_peer(wg0):
    wg0.update([Change(STRANGER, NOWHERE, 25), Change(SILENT, NOWHERE)])
    assert set(wg0.read().peers) == {PEER, SILENT}


def test_update_of_nothing_does_nothing(wg0):
    wg0.update([])
    assert wg0.read().peers[SILENT].endpoint is None


def test_first_endpoint_and_keepalive_make_the_handshake(wg0):
    wg0.update([Change(PEER, Endpoint.parse("127.0.0.1:51821"), 25)])
    assert handshake(wg0, PEER).rx > 0


def test_turning_keepalive_off_and_on_sends_a_packet(wg0):
    wg0.update([Change(PEER, Endpoint.parse("127.0.0.1:51821"), 25)])
    handshake(wg0, PEER)
    time.sleep(0.2)  # the first keepalive is on its way
    sent = wg0.read().peers[PEER].tx
    wg0.update([Change(PEER, keepalive=0), Change(PEER, keepalive=25)])
    deadline = time.monotonic() + 5
    while wg0.read().peers[PEER].tx == sent:
        assert time.monotonic() < deadline, "nothing was sent"
    assert wg0.read().peers[PEER].tx == sent + 32


def test_ten_thousand_peers_are_read_and_set(running, wg0):
    keys = [PrivateKey(os.urandom(32)).public for _ in range(10_000)]
    lines = [f"public_key={key.raw.hex()}\nallowed_ip=10.{n >> 8}.{n & 255}.7/32" for n, key in enumerate(keys)]
    running.configure("wg0", "replace_peers=true\n" + "\n".join(lines))
    first = wg0.read()
    wg0.update([Change(key, Endpoint(NOWHERE.address, 1000 + n), 0) for n, key in enumerate(keys)])
    again = wg0.read()
    running.configure("wg0", "replace_peers=true")
    assert set(first.peers) == set(again.peers) == set(keys)
    assert [again.peers[key].endpoint.port for key in keys] == list(range(1000, 11_000))


def test_restart_keeps_preshared_key_and_allowed_ips(running, wg0):
    before = running.peers("wg0")
    wg0.restart_peer(SILENT, NOWHERE, 25)
    wg0.restart_peer(PEER, NOWHERE, 0)
    after = wg0.read().peers
    assert (after[SILENT].endpoint, after[SILENT].keepalive) == (NOWHERE, 25)
    kept = ("preshared_key", "allowed_ip")
    assert {k: [x for x in lines if x.startswith(kept)] for k, lines in running.peers("wg0").items()} == {
        k: [x for x in lines if x.startswith(kept)] for k, lines in before.items()
    }


def test_restart_tries_a_new_endpoint_at_once(wg0):
    """A peer that is already trying another endpoint would wait for its next try, up to 5.3 s."""
    wg0.update([Change(PEER, NOWHERE, 25)])
    time.sleep(0.1)
    tried = wg0.read().peers[PEER]
    assert tried.tx > 0
    wg0.restart_peer(PEER, Endpoint.parse("127.0.0.1:51821"), 25, since=tried)
    assert handshake(wg0, PEER, timeout=4).preshared == PRESHARED


def test_restart_refuses_a_live_session(wg0):
    wg0.update([Change(PEER, Endpoint.parse("127.0.0.1:51821"), 25)])
    before = handshake(wg0, PEER)
    with pytest.raises(LiveSession, match=f"peer {PEER.short} of wg0 has a live session, which a restart would end"):
        wg0.restart_peer(PEER, NOWHERE, 25)
    after = wg0.read().peers[PEER]
    assert (after.endpoint, after.handshake) == (before.endpoint, before.handshake)


def test_restart_creates_no_peer(wg0):
    with pytest.raises(UsageError, match=r"wg0 has no peer .*; wgdisco never creates one"):
        wg0.restart_peer(STRANGER, NOWHERE, 25)
    assert set(wg0.read().peers) == {PEER, SILENT}


def test_restart_of_a_peer_with_many_allowed_ips_is_one_call(running, wg0):
    """5,000 allowed-ips are 260 kB, more than a socket takes by default."""
    networks = [f"fd00:0:0:1234:5678:9abc:def0:{n:x}/128" for n in range(1, 5001)]
    lines = "\n".join(f"allowed_ip={network}" for network in networks)
    running.configure("wg0", f"public_key={SILENT.raw.hex()}\nreplace_allowed_ips=true\n{lines}")
    wg0.restart_peer(SILENT, NOWHERE, 0)
    assert set(wg0.read().peers[SILENT].allowed_ips) == set(map(ip_network, networks))


def test_a_program_that_is_gone_is_no_device(running):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(running.sockets / "wg7.sock"))
    device = running.device("wg7")
    assert not device.answers()
    with pytest.raises(NoDevice, match=r"wg7: nothing listens on .*/wg7\.sock; `wg show interfaces` lists what exists"):
        device.read()


def test_a_program_that_says_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(uapi, "TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(tmp_path / "wg0.sock"))
        frozen.listen()
        with pytest.raises(AccessError, match=r"wg0: its program at .*/wg0\.sock does not answer: timed out"):
            uapi.UserspaceDevice("wg0", tmp_path).read()


def test_programs_are_listed_and_opened_and_stale_sockets_are_not(running):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(running.sockets / "wg8.sock"))
    assert list_devices(sockets=running.sockets)[:2] == ["wg0", "wg1"]
    assert open_device("wg1", sockets=running.sockets).name == "wg1"


@pytest.mark.parametrize("name", ["wg8", "", "../wg0", "wg0 ", "a" * 16, "."])
def test_a_missing_interface_names_those_that_exist(running, name):
    with pytest.raises(NoDevice) as caught:
        open_device(name, sockets=running.sockets)
    existing = ", ".join(list_devices(sockets=running.sockets))
    assert str(caught.value) == (
        f"there is no WireGuard interface {name!r}, but `wg show interfaces` has {existing}: choose with -i"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_a_socket_of_another_user_says_what_to_do(running):
    """In a child, because it gives up being root; it stands in the directory, since /proc is closed to others."""
    program = f"""
import os
from pathlib import Path
from wgdisco.device import open_device, list_devices
from wgdisco.errors import AccessError
os.chdir("{running.sockets}")
os.setgid(65534); os.setuid(65534)
assert "wg0" in list_devices(sockets=Path("."))
try:
    open_device("wg0", sockets=Path("."))
except AccessError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said == (
        "wg0: may not open wg0.sock: run as root, or give the socket to this user with `chown` "
        "(CAP_NET_ADMIN does not help with userspace WireGuard)\n"
    )


class Impossible:
    """A change that passes no check of ours."""

    key, endpoint, keepalive = STRANGER, "nowhere", None


@pytest.mark.parametrize("more", [0, 20_000])
def test_a_refused_request_is_an_error(wg0, more):
    """wireguard-go stops reading at the first bad line, and what it said is passed on."""
    with pytest.raises(AccessError, match=r"its program refused the request: .* \(errno 22\)"):
        wg0.update([Impossible()] + [Change(SILENT, NOWHERE)] * more)


# ---- a program that stands still, asked by many


class StandsStill:
    """A device whose program answers nobody until it is woken; each call takes 5 s of its own clock."""

    name = "wg9"

    def __init__(self, monkeypatch):
        self.now, self.calls, self.awake = 100.0, [], False
        monkeypatch.setattr(shared.time, "monotonic", lambda: self.now)

    def _call(self, name):
        self.calls.append(name)
        if not self.awake:
            self.now += uapi.TIMEOUT
            raise AccessError("wg9: its program does not answer")
        return Interface("wg9")

    def read(self):
        return self._call("read")

    def update(self, changes):
        self._call("update")

    def restart_peer(self, *_, since=None):
        self._call("restart")


def everything(device):
    """What a task per peer does when something is wrong: all of it fails."""
    for call in (device.read, lambda: device.update([]), lambda: device.restart_peer(PEER, NOWHERE, 0)):
        with pytest.raises(AccessError, match="wg9: its program does not answer"):
            call()


def test_a_program_that_stands_still_is_waited_for_by_one_and_not_by_all(monkeypatch):
    """Ten peers would else hold up the loop, and the watchdog with it, for 50 s and more."""
    device = StandsStill(monkeypatch)
    asked = shared.SharedDevice(device)
    for _ in range(10):
        everything(asked)
    assert device.calls == ["read"]
    device.now += shared.REST
    everything(asked)
    assert device.calls == ["read", "read"]


def test_a_program_that_goes_on_is_asked_again_soon(monkeypatch):
    device = StandsStill(monkeypatch)
    asked = shared.SharedDevice(device)
    everything(asked)
    device.awake = True
    device.now += shared.REST
    assert asked.read() == Interface("wg9")


def test_a_refusal_that_comes_at_once_is_no_standstill(monkeypatch):
    device = StandsStill(monkeypatch)
    monkeypatch.setattr(uapi, "TIMEOUT", 0.0)
    asked = shared.SharedDevice(device)
    everything(asked)
    assert device.calls == ["read", "update", "read"]  # a restart looks at the peer first


def test_a_program_that_takes_no_more_connections_stands_still_and_is_not_gone(tmp_path, monkeypatch):
    """A stopped one, asked for long enough: its queue is full."""
    monkeypatch.setattr(uapi, "TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX) as frozen, ExitStack() as queue:
        frozen.bind(str(tmp_path / "wg0.sock"))
        frozen.listen(0)
        with suppress(BlockingIOError):
            while True:
                waiting = queue.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(tmp_path / "wg0.sock"))
        with pytest.raises(AccessError, match=r"wg0: its program at .*/wg0\.sock does not answer") as caught:
            uapi.UserspaceDevice("wg0", tmp_path).read()
        assert not isinstance(caught.value, NoDevice)
