"""The checks that run in the guest, as root on Debian's kernel; `wg` and `ip` set things up and say whether we are right.

Each check is a function whose docstring is its line of output.
"""

import asyncio
import ctypes
import os
import subprocess
import sys
import time
import traceback
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path

from killer import kill_at_every_line

from wgdisco.device import Change, LiveSession, list_devices, netlink, open_device
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, NoDevice, WgdiscoError
from wgdisco.keys import PrivateKey

SECRETS = {name: bytes([number] * 32) for number, name in enumerate(("wg0", "wg1"), 1)}
KEYS = {name: PrivateKey(secret).public for name, secret in SECRETS.items()}
SILENT = PrivateKey(bytes([8] * 32)).public
STRANGER = PrivateKey(bytes([9] * 32)).public
PRESHARED = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NOWHERE = Endpoint.parse("127.0.0.1:9")
WG1 = Endpoint.parse("127.0.0.1:51821")
MANY = 10_000


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    if "--record" in sys.argv:
        first()
        record()
        return 0
    failed = [check.__name__ for check in CHECKS if not passes(check, words)]
    return 1 if failed else 0


def passes(check, words):
    """Run a check, say how it went, and return whether it passed. What it returns are figures."""
    if words and check is not first and not any(word in check.__name__ for word in words):
        return True
    started = time.monotonic()
    try:
        figures = check()
    except Exception:  # noqa: BLE001 - one line per check, whatever happens in it
        print(f"FAIL  {check.__doc__}", flush=True)
        traceback.print_exc(file=sys.stdout)
        return False
    print(f"ok    {check.__doc__} ({figures or f'{time.monotonic() - started:.1f} s'})", flush=True)
    return True


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def fails(error, function, *arguments, **options):
    """What the error says that the function raises."""
    try:
        function(*arguments, **options)
    except error as caught:
        return str(caught)
    raise AssertionError(f"{function} raised no {error.__name__}")


def load_modules():
    libc = ctypes.CDLL(None, use_errno=True)
    for path in sorted(Path("/modules").iterdir()):
        with path.open("rb") as module:
            if libc.syscall(313, module.fileno(), b"", 0) != 0:  # finit_module
                raise OSError(ctypes.get_errno(), f"cannot load {path.name}")


def setup():
    """wg0 with two peers, wg1 without endpoint and one that never answers; wg1 with one peer, wg0."""
    for name in KEYS:
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)
    for name, other, port in (("wg0", "wg1", 51820), ("wg1", "wg0", 51821)):
        silent = f"[Peer]\nPublicKey = {SILENT}\nAllowedIPs = 10.0.0.2/32\n" if name == "wg0" else ""
        run("ip", "link", "add", name, "type", "wireguard")
        configure(
            name,
            f"[Interface]\nPrivateKey = {text(SECRETS[name])}\nListenPort = {port}\n{silent}"
            f"[Peer]\nPublicKey = {KEYS[other]}\nPresharedKey = {PRESHARED}\nAllowedIPs = 10.0.0.1/32, fd00::1/128\n",
        )
        run("ip", "link", "set", name, "up")
    return open_device("wg0")


def configure(name, content, how="setconf"):
    path = Path("/tmp/wg.conf")
    path.write_text(content)
    run("wg", how, name, str(path))


def text(raw):
    import base64

    return base64.b64encode(raw).decode()


def dump(name="wg0"):
    """The interface as `wg show` reads it: listen port and fwmark, and per key what the peer has."""
    first, *lines = (line.split("\t") for line in run("wg", "show", name, "dump").splitlines())
    return first[2:], {line[0]: line[1:] for line in lines}


def agrees(interface):
    """Whether our reading says what `wg show` says."""
    (port, mark), peers = dump(interface.name)
    assert (interface.listen_port, interface.fwmark) == (int(port), 0 if mark == "off" else int(mark, 0))
    assert {str(key): as_wg(peer) for key, peer in interface.peers.items()} == peers
    return True


def as_wg(peer):
    return [
        text(peer.preshared) if peer.preshared else "(none)",
        str(peer.endpoint) if peer.endpoint else "(none)",
        ",".join(map(str, peer.allowed_ips)) or "(none)",
        str(int(peer.handshake)),
        str(peer.rx),
        str(peer.tx),
        str(peer.keepalive or "off"),
    ]


def kept():
    """What a restart must not change: key -> preshared key and allowed-ips."""
    return {key: (fields[0], sorted(fields[2].split(","))) for key, fields in dump()[1].items()}


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)
    return result


def handshake(device, key):
    return until(lambda: (peer := device.read().peers[key]).handshake and peer)


def first():
    """a kernel without WireGuard is told from one without the interface"""
    run("ip", "link", "set", "lo", "up")
    said = fails(AccessError, netlink.KernelDevice("wg0").read)
    assert said == "this kernel has no WireGuard: `modprobe wireguard`, or run wireguard-go", said
    assert fails(NoDevice, open_device, "wg0").startswith("there is no WireGuard interface 'wg0', and no other")
    load_modules()
    setup()


def names():
    """interfaces are listed, others refused"""
    assert list_devices() == ["wg0", "wg1"]
    assert "has wg0, wg1: choose with -i" in fails(NoDevice, open_device, "lo")
    assert "'lo' is no WireGuard interface" in fails(NoDevice, netlink.KernelDevice("lo").read)
    assert "'wg9' is gone" in fails(NoDevice, netlink.KernelDevice("wg9").read)


def read():
    """what is read agrees with wg show"""
    device = setup()
    run(
        "wg",
        "set",
        "wg0",
        "fwmark",
        "0xca6c",
        "peer",
        str(SILENT),
        "endpoint",
        "[2001:db8::1]:7",
        "persistent-keepalive",
        "5",
    )
    run("wg", "set", "wg0", "peer", str(KEYS["wg1"]), "endpoint", "[fe80::1%lo]:7")
    interface = device.read()
    peers = interface.peers
    assert str(peers[KEYS["wg1"]].endpoint) == "[fe80::1%1]:7", peers[KEYS["wg1"]].endpoint
    device.update([Change(KEYS["wg1"], Endpoint.parse("[fe80::1%lo]:8"))])
    assert str(device.read().peers[KEYS["wg1"]].endpoint) == "[fe80::1%1]:8"
    device.update([Change(KEYS["wg1"], NOWHERE)])
    interface = device.read()
    assert interface.private.public == interface.public == KEYS["wg0"]
    assert interface.index == int(Path("/sys/class/net/wg0/ifindex").read_text())
    return "" if agrees(interface) else None


def odd_keys():
    """a peer whose key nobody can hold is left out and reported"""
    device = setup()
    run("wg", "set", "wg0", "peer", text(bytes([1] + [0] * 31)), "allowed-ips", "10.0.0.9/32")
    interface = device.read()
    assert set(interface.peers) == {KEYS["wg1"], SILENT}
    assert len(interface.refused) == 1


def many_peers():
    """10,000 peers are read and set in one batch"""
    device = setup()
    run("ip", "link", "set", "wg0", "down")  # no handshakes while we compare
    keys = [PrivateKey(os.urandom(32)).public for _ in range(MANY)]
    peers = [
        f"[Peer]\nPublicKey = {k}\nAllowedIPs = 10.{n >> 8}.{n & 255}.7/32, fd00::{n:x}:0/128\n"
        for n, k in enumerate(keys)
    ]
    configure("wg0", "".join(peers), "addconf")
    times = [time.monotonic()]
    interface = device.read()
    times.append(time.monotonic())
    run("wg", "show", "wg0", "dump")
    times.append(time.monotonic())
    device.update([Change(key, Endpoint(NOWHERE.address, 1000 + n), 9) for n, key in enumerate([*keys, STRANGER])])
    times.append(time.monotonic())
    assert len(interface.peers) == MANY + 2
    again = device.read()
    assert STRANGER not in again.peers
    assert agrees(again)
    assert [again.peers[key].endpoint.port for key in keys] == list(range(1000, 1000 + MANY))
    took = [1000 * (b - a) for a, b in pairwise(times)]
    return "read {:.0f} ms, `wg show dump` {:.0f} ms, set {:.0f} ms".format(*took)


def meanwhile():
    """a reading during which a peer is restarted is whole all the same"""
    device = setup()
    networks = ", ".join(f"fd00::{n:x}/128" for n in range(1, 1401))
    configure("wg0", f"[Peer]\nPublicKey = {SILENT}\nAllowedIPs = {networks}\n", "addconf")
    peer = device.read().peers[SILENT]
    child = os.fork()
    if child == 0:
        try:
            for _ in range(30):
                device.replace(peer, remove=True)
                time.sleep(0.05)
        finally:
            os._exit(0)
    readings = 0
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        peers = device.read().peers
        assert (set(peers), len(peers[SILENT].allowed_ips)) == ({KEYS["wg1"], SILENT}, 1400)
        readings += 1
    assert readings, "nothing was read meanwhile"
    return f"{readings} readings"


def long_peer():
    """a peer with 5,000 allowed-ips, split over messages, is read, and restarted in one call"""
    device = setup()
    networks = [f"fd00::{n:x}/128" for n in range(1, 5001)]
    configure("wg0", f"[Peer]\nPublicKey = {SILENT}\nAllowedIPs = {', '.join(networks)}\n", "addconf")
    assert set(device.read().peers[SILENT].allowed_ips) == set(map(ip_network, networks))
    before = kept()
    device.restart_peer(SILENT, NOWHERE, 0)
    assert kept() == before


def update():
    """update changes endpoint and keepalive, leaves the rest, and creates no peer"""
    device = setup()
    before = kept()
    device.update([])
    device.update([Change(STRANGER, NOWHERE, 25), Change(SILENT, NOWHERE), Change(KEYS["wg1"], keepalive=7)])
    _, peers = dump()
    assert peers[str(SILENT)][1] == str(NOWHERE)
    assert peers[str(SILENT)][6] == "off"
    assert peers[str(KEYS["wg1"])][6] == "7"
    assert kept() == before


def first_endpoint():
    """a first endpoint with keepalive makes the handshake at once"""
    device = setup()
    device.update([Change(KEYS["wg1"], WG1, 25)])
    started = time.monotonic()
    handshake(device, KEYS["wg1"])
    return f"{1000 * (time.monotonic() - started):.0f} ms"


def keepalive():
    """keepalive off and on in one batch sends a packet at once"""
    device = setup()
    device.update([Change(KEYS["wg1"], WG1, 25)])
    handshake(device, KEYS["wg1"])
    far = open_device("wg1")
    handshake(far, KEYS["wg0"])
    time.sleep(0.5)  # the first keepalive is through
    before = far.read().peers[KEYS["wg0"]].rx
    device.update([Change(KEYS["wg1"], keepalive=0), Change(KEYS["wg1"], keepalive=25)])
    until(lambda: far.read().peers[KEYS["wg0"]].rx == before + 32)


def restart():
    """restart_peer tries a new endpoint at once, with preshared key and allowed-ips kept"""
    device = setup()
    before = kept()
    device.update([Change(KEYS["wg1"], NOWHERE, 25)])
    until(lambda: device.read().peers[KEYS["wg1"]].tx)
    started = time.monotonic()
    device.restart_peer(KEYS["wg1"], WG1, 25)
    handshake(device, KEYS["wg1"])
    took = time.monotonic() - started
    assert kept() == before
    assert took < 5, f"{took} s is as long as WireGuard's own next try"
    return f"{1000 * took:.0f} ms"


def restart_live():
    """restart_peer refuses a live session, and creates no peer"""
    device = setup()
    device.update([Change(KEYS["wg1"], WG1, 25)])
    before = handshake(device, KEYS["wg1"])
    fails(LiveSession, device.restart_peer, KEYS["wg1"], NOWHERE, 25)
    fails(WgdiscoError, device.restart_peer, STRANGER, NOWHERE, 25)
    after = device.read().peers
    assert after[KEYS["wg1"]].handshake == before.handshake
    assert STRANGER not in after


def restart_killed():
    """restart_peer killed at every line: peer, preshared key and allowed-ips are always there"""
    device = setup()
    before = kept()

    def check():
        assert kept() == before

    lines = kill_at_every_line(lambda: device.restart_peer(SILENT, NOWHERE, 25), check)
    assert lines > 100, "the tracer saw no lines"
    return f"{lines} lines"


def privileges():
    """without root CAP_NET_ADMIN is enough, and its absence is named"""
    setup()
    said = as_nobody(capabilities=0, code="netlink.KernelDevice('wg0').read()")
    assert said == "wg0: permission denied: run as root, or give this program CAP_NET_ADMIN", said
    said = as_nobody(capabilities=0, code="netlink.KernelDevice('wg0').update([Change(KEYS['wg1'], NOWHERE)])")
    assert said == "wg0: permission denied: run as root, or give this program CAP_NET_ADMIN", said
    restart = "open_device('wg0').restart_peer(SILENT, NOWHERE, 25)"
    assert as_nobody(capabilities=1 << 12, code=restart) == ""


def as_nobody(capabilities, code):
    """What the code says as an ordinary user with the capabilities given."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "it did not get so far"
        try:
            become_nobody(capabilities)
            exec(code, globals())
            said = ""
        except BaseException as error:  # noqa: BLE001 - a child tells everything and goes no further
            said = str(error)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def become_nobody(capabilities):
    """Another user; of root's capabilities only some are left (capset(2), version 3)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgid(65534)
    os.setuid(65534)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(capabilities, capabilities, 0, 0, 0, 0)
    assert libc.capset(header, data) == 0, ctypes.get_errno()


def stun():
    """STUN from WireGuard's own port, IPv4 and IPv6, while the tunnel is up"""
    device = setup()
    far = far_away()
    try:
        device.update([Change(KEYS["wg1"], WG1, 25)])
        before = handshake(device, KEYS["wg1"])
        assert asyncio.run(ask("10.9.0.2", 0)) == "10.9.0.1:51820"
        assert asyncio.run(ask("fd09::2", 0)) == "[fd09::1]:51820"
        assert device.read().peers[KEYS["wg1"]].handshake == before.handshake
    finally:
        close(far)


def stun_fwmark():
    """STUN with the interface's fwmark goes past a full tunnel, as its own packets do"""
    setup()
    far = far_away()
    try:
        run("wg", "set", "wg0", "fwmark", "51820", "peer", str(SILENT), "allowed-ips", "0.0.0.0/0")
        run("ip", "route", "add", "default", "dev", "wg0", "table", "51820")
        run("ip", "rule", "add", "not", "fwmark", "51820", "table", "51820")
        assert asyncio.run(ask("10.9.0.2", open_device("wg0").read().fwmark)) == "10.9.0.1:51820"
        try:
            answer = asyncio.run(ask("10.9.0.2", 0))
        except OSError:  # TimeoutError, or no address on the tunnel
            answer = None
        assert answer is None, answer
    finally:
        run("ip", "rule", "del", "not", "fwmark", "51820", "table", "51820")
        close(far)


async def ask(server, fwmark):
    from wgdisco.device.port import WireGuardPort
    from wgdisco.stun import Message

    async with WireGuardPort(51820, fwmark=fwmark) as port:
        address = f"[{server}]" if ":" in server else server
        answer = await port.transact(Message(), Endpoint.parse(f"{address}:3478"), waits=(0.5, 1.0))
        return str(answer.mapped)


def far_away():
    """A STUN server in a namespace of its own, behind a pair of cables."""
    run("ip", "netns", "add", "far")
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "eth0", "netns", "far")
    for name, number, namespace in (("near", 1, ()), ("eth0", 2, ("-n", "far"))):
        run("ip", *namespace, "link", "set", name, "up")
        run("ip", *namespace, "address", "add", f"10.9.0.{number}/24", "dev", name)
        run("ip", *namespace, "address", "add", f"fd09::{number}/64", "dev", name, "nodad")
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    server = ["/project/tests/unit/stunserver.py", "10.9.0.2"]
    processes = []
    for address in ("10.9.0.2", "fd09::2"):
        command = ["ip", "netns", "exec", "far", sys.executable, server[0], address]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    return processes


def agents():
    """two agents connect two kernel tunnels, and a live session follows a change of address"""
    homes = {"left": ("wgl", "wg0", "192.0.2.1"), "right": ("wgr", "wg1", "192.0.2.2")}
    run("ip", "netns", "add", "left")
    run("ip", "netns", "add", "right")
    run("ip", "link", "add", "eth0", "netns", "left", "type", "veth", "peer", "name", "eth0", "netns", "right")
    processes = []
    try:
        for home, (name, key, address) in homes.items():
            other = KEYS["wg1" if key == "wg0" else "wg0"]
            for words in ("link set lo up", "link set eth0 up", f"address add {address}/24 dev eth0"):
                run("ip", "-n", home, *words.split())
            run("ip", "-n", home, "route", "add", "default", "via", "192.0.2.254", "dev", "eth0")
            run("ip", "-n", home, "link", "add", name, "type", "wireguard")
            peer = f"[Peer]\nPublicKey = {other}\nPresharedKey = {PRESHARED}\nAllowedIPs = 10.0.0.1/32\n"
            Path("/tmp/wg.conf").write_text(
                f"[Interface]\nPrivateKey = {text(SECRETS[key])}\nListenPort = 51820\n{peer}"
            )
            run("ip", "netns", "exec", home, "wg", "setconf", name, "/tmp/wg.conf")
            run("ip", "-n", home, "link", "set", name, "up")
        Path("/tmp/store").mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        for home, (name, _, _) in homes.items():
            words = ["run", "-i", name, "-b", "folder", "-o", "path=/tmp/store", "--stun", "none"]
            command = ["ip", "netns", "exec", home, sys.executable, "-m", "wgdisco", *words]
            processes.append(subprocess.Popen(command, env=environment))
        started = time.monotonic()
        until(lambda: all(_agent_peer(home, homes[home][0])[3] != "0" for home in homes), 60)
        took = time.monotonic() - started
        assert {_agent_peer(home, homes[home][0])[0] for home in homes} == {PRESHARED}
        assert _agent_peer("right", "wgr")[1] == "192.0.2.1:51820"
        handshake_before = _agent_peer("right", "wgr")[3]
        time.sleep(3)
        moved = time.monotonic()
        run("ip", "-n", "left", "address", "del", "192.0.2.1/24", "dev", "eth0")
        run("ip", "-n", "left", "address", "add", "192.0.2.9/24", "dev", "eth0")
        run("ip", "-n", "left", "route", "replace", "default", "via", "192.0.2.254", "dev", "eth0")
        until(lambda: _agent_peer("right", "wgr")[1] == "192.0.2.9:51820", 60)
        assert _agent_peer("right", "wgr")[3] == handshake_before, "the session did not survive the move"
        return f"connected after {took:.1f} s, followed after {time.monotonic() - moved:.1f} s"
    finally:
        for process in processes:
            process.kill()
            process.wait()
        run("ip", "netns", "del", "left")
        run("ip", "netns", "del", "right")


def _agent_peer(home, name):
    """What `wg show` says of the only peer there: preshared key, endpoint, allowed-ips, handshake, …"""
    lines = run("ip", "netns", "exec", home, "wg", "show", name, "dump").splitlines()
    return lines[1].split("\t")[1:]


def close(processes):
    for process in processes:
        process.kill()
        process.wait()
    run("ip", "netns", "del", "far")


def record():
    """Print what goes over netlink for a small interface, for tests/unit/test_netlink_recorded.py."""
    device = setup()
    networks = [f"fd00::{n:x}/128" for n in range(1, 121)]
    configure("wg0", f"[Peer]\nPublicKey = {SILENT}\nAllowedIPs = {', '.join(networks)}\n", "addconf")
    run("wg", "set", "wg0", "fwmark", "51820", "peer", str(SILENT), "endpoint", "[2001:db8::1]:7")
    device.update([Change(KEYS["wg1"], WG1, 25)])
    handshake(device, KEYS["wg1"])
    for line in run("wg", "show", "wg0", "dump").splitlines():
        print(f"record: wg {line}")
    netlink.LARGEST = 4096  # the kernel makes small messages for a small buffer, so that the peer is split
    recorded("read", device.read)
    recorded("links", netlink.list_links)
    netlink.LARGEST = 1 << 16
    recorded("update", lambda: device.update([Change(SILENT, NOWHERE, 0), Change(SILENT, keepalive=25)]))
    recorded("refused", lambda: fails(NoDevice, netlink.KernelDevice("lo").read))
    recorded("restart", lambda: device.replace(device.read().peers[KEYS["wg1"]], remove=True))


def recorded(name, function):
    send, receive = netlink._Netlink._send, netlink._Netlink._receive

    def sending(self, data):
        print(f"record: > {data.hex()}")
        send(self, data)

    class Tap:
        """The socket, telling what it receives."""

        def __init__(self, inner):
            self.inner = inner

        def recvmsg(self, size):
            answer = self.inner.recvmsg(size)
            print(f"record: < {answer[0].hex()}")
            return answer

    def receiving(self):
        outer, self._socket = self._socket, Tap(self._socket)
        try:
            return receive(self)
        finally:
            self._socket = outer

    netlink._Netlink._send, netlink._Netlink._receive = sending, receiving
    print(f"record: # {name}")
    try:
        function()
    finally:
        netlink._Netlink._send, netlink._Netlink._receive = send, receive


CHECKS = (
    first,
    names,
    read,
    odd_keys,
    update,
    first_endpoint,
    keepalive,
    restart,
    restart_live,
    restart_killed,
    meanwhile,
    long_peer,
    privileges,
    stun,
    stun_fwmark,
    agents,
    many_peers,
)
