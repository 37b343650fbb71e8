"""`wgdisco connect` on both sides: every pair of sites with the expected yes or no, on real WireGuard and real NAT."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab.lab import SITES, Host, Lab
from tests.lab.node import Process
from tests.lab.wireguard import WireGuard

pytestmark = pytest.mark.lab

OPEN = {"public", "fullcone", "addrrest", "hairpin"}  # whoever is symmetric can reach these
SYMMETRIC = {"sym", "dbl_sym"}
TRAP = "masq_open"  # its router accepts what it did not ask for, and so moves the mapping of an early packet
SMOKE = [
    ("masq", "masq"),
    ("masq", "fullcone"),
    ("addrrest", "masq"),
    ("fullcone", "sym"),
    ("sym", "addrrest"),
    ("public", "sym"),
    ("fw", "masq"),
    ("fw6", "fw6"),
    ("dbl_masq", "masq"),
    ("dbl_sym", "fullcone"),
    ("masq", "sym"),
    ("sym", "sym"),
    ("masq", TRAP),
    (TRAP, "masq"),
]
PATIENCE = 40  # seconds for a pair that works
HOPELESS = 12  # seconds for a pair that cannot


class Pair(NamedTuple):
    """Two hosts with a tunnel that has no endpoint yet, and what both commands are called with."""

    hosts: tuple[Host, Host]
    tunnels: tuple[WireGuard, WireGuard]
    options: list[str]

    def connect(self, side: int, *more: str) -> Process:
        """Type `wgdisco connect` on one side."""
        words = ["connect", self.tunnels[1 - side].public, *self.options, *more]
        return self.hosts[side].wgdisco(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def expected(first: str, second: str) -> bool:
    """Whether two sites can be connected directly."""
    kinds = {first, second}
    if "fw6" in kinds:
        return kinds <= {"fw6", "public"}  # the others have no IPv6
    return not kinds & SYMMETRIC or bool(kinds & OPEN)


def pair(lab: Lab, folder: Path, first: str, second: str) -> Pair:
    """Two sites that know each other's key, two STUN servers, and a folder as the store."""
    servers = [lab.stun("stun"), lab.stun("stun2")]
    hosts = settled(lab, "alice", first, "198.51.100.77/24"), settled(lab, "bob", second, "192.0.2.77/24")
    tunnels = hosts[0].wireguard("wg0", "10.9.0.1/24"), hosts[1].wireguard("wg0", "10.9.0.2/24")
    tunnels[0].peer(tunnels[1].public, "10.9.0.2/32")
    tunnels[1].peer(tunnels[0].public, "10.9.0.1/32")
    options = ["-b", "folder", "-o", f"path={folder}"]
    for server in servers:
        place = server.place6 if "fw6" in (first, second) else server.place
        options += ["--stun", f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"]
    return Pair(hosts, tunnels, options)


def settled(lab: Lab, name: str, kind: str, trap: str) -> Host:
    """A site; a router that is a trap stands in a network of its own, as two customers of two providers do."""
    return lab.host(name, lab.router(f"{name}-r", kind, address=trap)) if kind == TRAP else lab.site(name, kind)


def told(process: Process, seconds: float) -> tuple[int, str]:
    """Exit code and everything that was said."""
    out, _ = process.communicate(timeout=seconds)
    return process.returncode, out


def try_cell(lab: Lab, folder: Path, first: str, second: str) -> None:
    works = expected(first, second)
    both = pair(lab, folder, first, second)
    timeout = () if works else ("--timeout", str(HOPELESS))
    waiting = both.connect(0, *timeout)
    time.sleep(1.0)
    results = [told(process, PATIENCE) for process in (both.connect(1, *timeout), waiting)]
    assert [code for code, _ in results] == [0 if works else 1] * 2, "\n".join(out for _, out in results)
    assert both.hosts[0].ping("10.9.0.2", 3) is works
    if not works and "fw6" not in (first, second):
        assert all("symmetric" in out for _, out in results), "a pair that cannot work has to say so"


@pytest.mark.parametrize(("first", "second"), SMOKE)
def test_smoke_cells(lab: Lab, tmp_path: Path, first: str, second: str) -> None:
    try_cell(lab, tmp_path, first, second)


@pytest.mark.full
@pytest.mark.parametrize("second", SITES)
@pytest.mark.parametrize("first", SITES)
def test_every_pair(lab: Lab, tmp_path: Path, first: str, second: str) -> None:
    if (first, second) in SMOKE or first == second == TRAP:
        pytest.skip("a smoke cell, or two traps, which is a matter of milliseconds")
    try_cell(lab, tmp_path, first, second)


def test_a_live_session_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    """Promise 1: on a tunnel that works, connect says so and changes nothing."""
    both = pair(lab, tmp_path, "masq", "masq")
    processes = both.connect(0), both.connect(1)
    assert [told(process, PATIENCE)[0] for process in processes] == [0, 0]
    before = [tunnel.get() for tunnel in both.tunnels]
    code, out = told(both.connect(0), PATIENCE)
    assert (code, out.split(":")[0]) == (0, "connected already")
    assert [[line for line in text.splitlines() if "bytes" not in line] for text in before] == [
        [line for line in tunnel.get().splitlines() if "bytes" not in line] for tunnel in both.tunnels
    ]


def test_what_the_user_configured_survives(lab: Lab, tmp_path: Path) -> None:
    """Keepalive, preshared key and allowed-ips are the same afterwards, although the peer was restarted on the way."""
    both = pair(lab, tmp_path, "masq", "masq")
    shared = bytes(range(32))
    both.tunnels[0].peer(both.tunnels[1].public, "10.9.0.2/32", "10.77.0.0/16", keepalive=7, preshared=shared)
    both.tunnels[1].peer(both.tunnels[0].public, preshared=shared)
    # an endpoint that leads nowhere: WireGuard is already trying there, so only a restart tries elsewhere at once
    both.tunnels[0].peer(both.tunnels[1].public, endpoint="203.0.113.250:9", keepalive=7)
    processes = both.connect(0), both.connect(1)
    assert [told(process, PATIENCE)[0] for process in processes] == [0, 0]
    peer = both.tunnels[0].peers()[both.tunnels[1].public]
    assert peer["persistent_keepalive_interval"] == "7"
    assert peer["preshared_key"] == shared.hex()
    assert sorted(peer["allowed_ip"].split()) == ["10.77.0.0/16", "10.9.0.2/32"]


@pytest.mark.parametrize("delay", [0.025, 0.05], ids=["50 ms", "100 ms"])
def test_both_at_once_do_not_collide_for_long(lab: Lab, tmp_path: Path, delay: float) -> None:
    """Typed at the same moment, over a slow line: one side initiates, so the handshakes do not destroy each other."""
    both = pair(lab, tmp_path, "masq", "masq")
    for host in both.hosts:
        host.network.cable.delay(delay)  # type: ignore[attr-defined]  # homes have routers
    processes = both.connect(0), both.connect(1)
    assert [told(process, PATIENCE)[0] for process in processes] == [0, 0]


def test_the_second_person_may_come_much_later(lab: Lab, tmp_path: Path) -> None:
    """The mapping is kept alive while one side waits: the router here forgets it after 30 s without a packet."""
    both = pair(lab, tmp_path, "masq", "masq")
    waiting = both.connect(0)
    time.sleep(35)
    assert [told(process, PATIENCE)[0] for process in (both.connect(1), waiting)] == [0, 0]


def test_interrupting_it_leaves_the_peer_as_it_was(lab: Lab, tmp_path: Path) -> None:
    both = pair(lab, tmp_path, "masq", "masq")
    waiting = both.connect(0)
    time.sleep(1.5)
    waiting.send_signal(2)
    assert told(waiting, 10)[0] == 130
    assert both.tunnels[0].peers()[both.tunnels[1].public].endpoint == ""
