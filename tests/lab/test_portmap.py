"""A router that forwards our port because we asked: real miniupnpd, seen from outside."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.lab.duo import Duo
from tests.lab.lab import Host, Lab, Router
from tests.lab.miniupnpd import OUTSIDE, Miniupnpd
from tests.lab.space import HERE, wait_until
from wgdisco.keys import PrivateKey, PublicKey
from wgdisco.record import Kind

pytestmark = pytest.mark.lab

PORT = 51820
PEER = PublicKey.parse("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=")
NO_PCP = "insert rule inet firewall input udp dport 5351 @th,64,8 2 reject\n"
"""A router that knows only NAT-PMP: version 2, PCP's, is refused."""
PROTOCOLS = {
    "PCP": ({}, ""),
    "NAT-PMP": ({}, NO_PCP),
    "UPnP": ({"upnp": True, "pcp": False}, ""),
}
SILENT = (
    "the router 192.168.1.1 answers neither PCP, NAT-PMP nor UPnP; forward UDP port 51820 there by hand and name it "
    "with --endpoint ADDRESS:PORT"
)
by_each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


class Forwarded:
    """A process of a host that has its port forwarded (tests/lab/forwarded.py)."""

    def __init__(self, host: Host, secret: str = "one", *options: str) -> None:
        pytest.importorskip("miniupnpc")
        self.process = host.popen(
            sys.executable, HERE / "forwarded.py", str(PORT), secret, *options, stdin=subprocess.PIPE
        )

    def __call__(self, *words: object) -> list:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def find(self, deadline: float = 6) -> tuple[list[str], list[str]]:
        """Where we are reached, and the problems."""
        found, problems = self("find", deadline)
        assert all(kind == Kind.MAPPED for _, _, kind in found)
        return [endpoint for endpoint, _, _ in found], problems

    def protocols(self) -> list[str]:
        """By which protocol, for each endpoint."""
        return [detail.rpartition(" ")[2] for _, detail, _ in self("find", 6)[0]]


def home(lab: Lab, protocol: str = "PCP", *, ipv6: bool = False, address: str = OUTSIDE) -> tuple[Router, Miniupnpd]:
    """A home router that speaks the protocol."""
    router = lab.router("home", "masq", address=f"{address}/24", ipv6=ipv6)
    options, rules = PROTOCOLS[protocol]
    daemon = Miniupnpd(router, **options)
    router.nft(rules)
    return router, daemon


def listener(host: Host, family: int = socket.AF_INET) -> socket.socket:
    """Whoever has WireGuard's port in the host."""
    opened = host.socket(family=family)
    opened.bind(("", PORT))
    opened.settimeout(0.5)
    return opened


def reaches(peer: Host, endpoint: str, there: socket.socket) -> bool:
    """Whether a datagram from outside, which nobody inside asked for, arrives."""
    address, _, port = endpoint.rpartition(":")
    family = socket.AF_INET6 if "[" in address else socket.AF_INET
    with peer.socket(family=family) as knock:
        knock.sendto(b"knock", (address.strip("[]"), int(port)))
        try:
            return there.recv(100) == b"knock"
        except TimeoutError:
            return False


def counted(router: Router) -> Callable[[], int]:
    """How many questions the router has got on the ports of the three protocols."""
    router.nft("insert rule inet firewall input udp dport { 1900, 5351 } counter\n")

    def count() -> int:
        listed = router.run("nft", "list", "chain", "inet", "firewall", "input").stdout
        return int(listed.partition("counter packets ")[2].split()[0])

    return count


@by_each_protocol
def test_a_datagram_from_outside_arrives_until_we_go(lab, protocol):
    """Not before, and no more after `close`, which removes the rule from the router."""
    router, daemon = home(lab, protocol)
    host, peer = lab.host("host", router), lab.public("peer")
    with listener(host) as there:
        endpoint = f"{OUTSIDE}:{PORT}"
        assert not reaches(peer, endpoint, there)
        forwarded = Forwarded(host)
        assert forwarded.find() == ([endpoint], [])
        assert forwarded.protocols() == [protocol]
        assert reaches(peer, endpoint, there)
        forwarded("close")
        assert "dnat" not in daemon.rules
        assert not reaches(peer, endpoint, there)


@pytest.mark.parametrize("gateway", ["2001:db8:1::1", "fe80::ff:fe00:1"], ids=["global", "link-local"])
def test_pcp_opens_the_firewall_for_ipv6(lab, gateway):
    """By a router at a global address or, as router advertisements have it, at a link-local one."""
    router, _ = home(lab, ipv6=True)
    host, peer = lab.host("host", router), lab.public("peer")
    host.ip(f"route replace default via {gateway} dev eth0")
    ours = next(str(each.ip) for each in host.addresses if each.version == 6)
    with listener(host, socket.AF_INET6) as there:
        assert not reaches(peer, f"[{ours}]:{PORT}", there)
        forwarded = Forwarded(host)
        assert forwarded.find() == ([f"{OUTSIDE}:{PORT}", f"[{ours}]:{PORT}"], [])
        assert reaches(peer, f"[{ours}]:{PORT}", there)
        forwarded("close")
        assert not reaches(peer, f"[{ours}]:{PORT}", there)


@pytest.mark.parametrize("ipv4", [True, False], ids=["both", "IPv6 alone"])
def test_a_router_that_is_silent_for_ipv6_is_a_problem_only_where_there_is_no_other(lab, ipv4):
    if ipv4:
        router, _ = home(lab, ipv6=True)
    else:
        router = lab.router("home", "fw", ipv4=False, ipv6=True)
    router.nft("insert rule inet firewall input meta nfproto ipv6 udp dport 5351 drop\n")
    host = lab.host("host", router)
    silent = f"portmap: the router {router.lans[-1][1]} does not answer PCP; let its firewall pass UDP port {PORT} to"
    expected = ([f"{OUTSIDE}:{PORT}"], []) if ipv4 else ([], [f"{silent} {host.address}"])
    assert Forwarded(host).find() == expected


@by_each_protocol
def test_after_a_reboot_of_the_router_the_port_is_forwarded_again_at_once(lab, protocol):
    router, daemon = home(lab, protocol)
    host = lab.host("host", router)
    time.sleep(4.2)  # the router's epoch has to be seconds behind the one we know, however long its start takes
    forwarded = Forwarded(host, "one", "0")
    found = forwarded.find()
    assert found == ([f"{OUTSIDE}:{PORT}"], [])
    before = daemon.rules
    assert forwarded.find() == found
    daemon.reboot()
    router.nft(PROTOCOLS[protocol][1])
    assert "dnat" not in daemon.rules
    assert forwarded.find() == found
    assert daemon.rules == before


@by_each_protocol
def test_a_mapping_is_renewed_when_half_of_it_is_over_and_not_before(lab, protocol):
    router, daemon = home(lab, protocol)
    forwarded = Forwarded(lab.host("host", router), "one", "100000")
    asked = {"PCP": "PCP MAP: ", "NAT-PMP": "NAT-PMP port mapping request", "UPnP": "AddPortMapping: ext port"}[
        protocol
    ]
    found = forwarded.find()
    forwarded("later", 1790)
    assert forwarded.find() == found
    assert daemon.log.count(asked) == 1
    forwarded("later", 20)
    assert forwarded.find() == found
    assert daemon.log.count(asked) == 2


@by_each_protocol
def test_another_outer_port_is_taken_when_a_neighbour_has_ours(lab, protocol):
    router, _ = home(lab, protocol)
    neighbour, host, peer = lab.host("neighbour", router), lab.host("host", router), lab.public("peer")
    taken, forwarded = Forwarded(neighbour).find(), Forwarded(host)
    (endpoint,), problems = forwarded.find()
    assert (taken[0], problems) == ([f"{OUTSIDE}:{PORT}"], [])
    assert endpoint != taken[0][0]
    with listener(host) as there:
        assert reaches(peer, endpoint, there)


def test_a_process_that_was_killed_leaves_a_mapping_that_the_next_one_may_have(lab):
    """The nonce is made from a secret that outlives the process, and a router may let nobody else change a mapping."""
    router, daemon = home(lab)
    host = lab.host("host", router)
    killed = Forwarded(host)
    found = killed.find()
    killed.process.send_signal(signal.SIGKILL)
    again = Forwarded(host)
    assert (again.find(), again.protocols()) == (found, ["PCP"])
    nonces = re.findall(r"added mapping UDP .* 'PCP MAP (\w+)'", daemon.log)
    assert len(nonces) == 2
    assert nonces[0] == nonces[1]


def test_a_router_that_hears_only_multicast_searches_is_found(lab):
    router, _ = home(lab, "UPnP")
    router.nft(f"insert rule inet firewall input ip daddr {router.lans[0][1]} udp dport 1900 drop\n")
    assert Forwarded(lab.host("host", router)).find() == ([f"{OUTSIDE}:{PORT}"], [])


def test_what_somebody_else_mapped_to_us_is_used_and_stays(lab):
    router, daemon = home(lab, "UPnP")
    host = lab.host("host", router)
    host.call(map_by_hand, "http://192.168.1.1:5000/rootDesc.xml", host.address)
    forwarded = Forwarded(host)
    assert forwarded.find() == ([f"{OUTSIDE}:{PORT}"], [])
    forwarded("close")
    assert f"dnat ip to {host.address}:{PORT}" in daemon.rules


def map_by_hand(description: str, address: str) -> None:
    import miniupnpc

    device = miniupnpc.UPnP()
    device.selectigd(description)
    device.addportmapping(PORT, "UDP", address, PORT, "mine", "", 0)


@by_each_protocol
def test_a_router_behind_a_carriers_nat_gives_no_candidate(lab, protocol):
    router, daemon = home(lab, protocol, address="100.64.0.9")
    found, problems = Forwarded(lab.host("host", router)).find()
    assert (found, len(problems)) == ([], 1)
    assert "dnat" not in daemon.rules
    said = {"PCP": "NO_RESOURCES", "NAT-PMP": "Network Failure", "UPnP": "outer address"}[protocol]
    assert said in problems[0], problems


def test_an_unknown_router_is_silent_and_is_left_alone_for_ten_minutes(lab):
    router = lab.router("home", "masq", lan="192.168.1.0/24")
    count = counted(router)
    router.nft("insert rule inet firewall input udp dport { 1900, 5351 } drop\n")
    router.nft("insert rule inet firewall input udp dport { 1900, 5351 } counter\n")
    forwarded = Forwarded(lab.host("host", router))
    silence = (
        [],
        [f"portmap: {SILENT}"],
    )
    assert forwarded.find() == silence
    asked = count()
    assert 0 < asked <= 20
    forwarded("later", 590)
    assert forwarded.find() == silence
    assert count() == asked
    forwarded("later", 20)
    assert forwarded.find() == silence
    assert count() > asked


def test_another_router_is_asked_at_once(lab):
    """Roaming into another network waits for nothing, however silent the last router was."""
    quiet = lab.router("quiet", "masq", lan="192.168.7.0/24")
    router, _ = home(lab)
    host = lab.host("host", quiet)
    forwarded = Forwarded(host)
    assert forwarded.find()[0] == []
    host.move(router)
    assert forwarded.find() == ([f"{OUTSIDE}:{PORT}"], [])


def test_in_a_full_tunnel_the_router_is_asked_beside_it(lab):
    """With WireGuard's fwmark; without it there is no router: whoever is at the other end of the tunnel is none of ours."""
    router, _ = home(lab)
    host = lab.host("host", router)
    host.wireguard("wg0", "10.9.0.1/24").set("fwmark=51820")
    host.run("ip", "route", "add", "default", "via", "10.9.0.2", "dev", "wg0", "table", "51820")
    host.run("ip", "rule", "add", "not", "fwmark", "51820", "table", "51820")
    assert Forwarded(host).find() == ([], ["portmap: no router to ask: there is no default route by one"])
    assert Forwarded(host, "one", "", "51820").find() == ([f"{OUTSIDE}:{PORT}"], [])


def test_the_deadline_is_kept_and_the_result_comes_with_the_next_find(lab):
    router, _ = home(lab)
    host = lab.host("host", router)
    host.cable.delay(0.1)
    forwarded = Forwarded(host)
    assert forwarded.find(0.01) == ([], [])
    assert forwarded.find() == ([f"{OUTSIDE}:{PORT}"], [])


def test_endpoints_shows_the_forwarded_port_and_takes_it_back(lab):
    router, daemon = home(lab)
    host = lab.host("host", router)
    host.wireguard("wg0", "10.9.0.1/24")
    done = host.run(sys.executable, "-m", "wgdisco", "endpoints", "--portmap", "--stun", "none")
    line = f"  endpoint: {OUTSIDE}:{PORT} (mapped; forwarded by the router {router.lans[0][1]}, PCP)"
    assert line in done.stdout.splitlines()
    assert "added mapping UDP" in daemon.log
    assert "dnat" not in daemon.rules


@pytest.mark.parametrize("command", [["publish"], ["run", "--once", "--timeout", "2"]], ids=" ".join)
def test_what_publishes_once_leaves_the_port_forwarded_for_as_long_as_its_record(lab, tmp_path, command):
    router, daemon = home(lab)
    host = lab.host("host", router)
    host.wireguard("wg0", "10.9.0.1/24").peer(PEER, "10.9.0.2/32")
    host.run(sys.executable, "-m", "wgdisco", *command, "--portmap", *store(tmp_path), check=False)
    assert f"dnat ip to {host.address}:{PORT}" in daemon.rules


def test_only_the_agent_asks_the_router_because_of_the_configuration(lab, tmp_path):
    """And it takes the mapping back when it is stopped."""
    router, daemon = home(lab)
    host = lab.host("host", router)
    host.wireguard("wg0", "10.9.0.1/24").peer(PEER, "10.9.0.2/32")
    host.path("/etc/wgdisco").mkdir(parents=True)
    host.path("/etc/wgdisco/wg0.toml").write_text("portmap = true\n")
    done = host.run(sys.executable, "-m", "wgdisco", "publish", *store(tmp_path))
    assert "(mapped)" not in done.stdout
    assert "dnat" not in daemon.rules
    agent = host.wgdisco("run", "-i", "wg0", *store(tmp_path), stderr=subprocess.DEVNULL)
    wait_until(lambda: f"dnat ip to {host.address}:{PORT}" in daemon.rules, "the port is forwarded")
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    assert "dnat" not in daemon.rules


def test_the_port_stays_forwarded_when_a_peer_is_added(lab, tmp_path):
    """The router is asked neither to close it nor to open it again; WireGuard's port is another one afterwards."""
    router, daemon = home(lab)
    host = lab.host("host", router)
    tunnel = host.wireguard("wg0", "10.9.0.1/24")
    tunnel.peer(PEER, "10.9.0.2/32")
    with (tmp_path / "log").open("w") as log:
        agent = host.wgdisco("run", "-i", "wg0", "--portmap", *store(tmp_path), stdout=log, stderr=log)

    def forwards(number: int, port: int) -> None:
        """Wait until so many sessions have begun and the last one has published the forwarded port."""

        def is_so() -> bool:
            *_, last = (tmp_path / "log").read_text().rpartition(f"port {port}, {number} peer")
            return "published" in last and f"dnat ip to {host.address}:{port}" in daemon.rules

        wait_until(is_so, f"port {port} is forwarded, and {number} peers know", 20)

    forwards(1, PORT)
    tunnel.peer(PrivateKey(bytes(32)).public, "10.9.0.3/32")
    forwards(2, PORT)
    assert (daemon.log.count("PCP MAP: added mapping"), "removed" in daemon.log) == (1, False), daemon.log
    tunnel.set("listen_port=40000")
    forwards(2, 40000)
    assert f":{PORT}" not in daemon.rules
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    assert "dnat" not in daemon.rules


def test_behind_a_router_that_forwards_even_a_symmetric_nat_gets_through(lab, tmp_path):
    """The pair cannot work without: one side's port is unknown, the other side lets in only what it knows."""
    duo = Duo(lab, tmp_path, "masq", "sym")
    router = duo.hosts[0].network
    router.readdress(f"{OUTSIDE}/24")
    Miniupnpd(router)
    duo.run(0, "--portmap")
    duo.run(1)
    duo.connected()
    assert f"{OUTSIDE}:{PORT}" in str(duo.other(1).endpoint)
    wait_until(lambda: duo.state(1)["nat"] == ["address-and-port-dependent"] * 2, "the NAT is known", 20)
    assert "can hardly be connected" not in duo.words()


def store(folder) -> list[str]:
    """Options for a store in a folder, and for asking nobody but the router."""
    return ["-b", "folder", "-o", f"path={folder}", "--stun", "none"]
