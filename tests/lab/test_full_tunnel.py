"""AllowedIPs 0.0.0.0/0 with the rules of wg-quick: stores are reached while the tunnel is down. Real redis, real DHT."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.duo import ADDRESSES, Duo
from tests.lab.faults import Words, command, configure, full_tunnel, home, known, outer, run_both, until_connected
from tests.lab.lab import Host, Lab
from tests.lab.space import wait_until
from tests.support import require_binary

pytestmark = pytest.mark.lab
full = pytest.mark.full

AGAIN = 90.0  # seconds to a handshake, where a store's connection may have to be given up first


def redis_on(host: Host, address: str) -> list[str]:
    """A redis-server that listens on the network: what makes an agent use it."""
    words = ["--bind", address, "--protected-mode", "no", "--save", "", "--appendonly", "no"]
    server = host.popen(require_binary("redis-server"), *words)
    assert server.stdout is not None
    assert any("Ready to accept connections" in line for line in server.stdout)
    return ["-b", "redis", "-o", f"redis.url=redis://{address}:6379"]


def store_on(host: Host, kind: str) -> list[str]:
    """The only store: one reached by TCP, or by UDP."""
    if kind == "redis":
        return redis_on(host, host.address)
    node = host.wgdisco("dht-node", "--port", "6881", "--bind", host.address)
    assert node.stdout is not None
    assert "listens on" in node.stdout.readline()
    return ["-b", "dht", "-o", f"dht.bootstrap={host.address}:6881"]


def resolve_by(duo: Duo, side: int, server: str) -> None:
    """What the system's resolver of a side asks."""
    path = duo.hosts[side].path("/etc/resolv.conf")
    path.unlink(missing_ok=True)
    path.write_text(f"nameserver {server}\n")


@pytest.mark.parametrize("kind", ["redis", pytest.param("dht", marks=full)])
def test_a_store_on_the_internet(lab: Lab, tmp_path: Path, kind: str) -> None:
    """It tells of the peer before there is a tunnel, and again when both ends have moved and the tunnel is dead."""
    host = lab.public("store")
    duo = Duo(lab, tmp_path, store=store_on(host, kind))
    full_tunnel(duo, 0)
    resolve_by(duo, 0, host.address)
    run_both(duo)
    until_connected(duo)
    assert f"names are looked up at {host.address}, through wg0" in duo.words()
    for side in (0, 1):
        home(duo, side).readdress()
    with duo.pinging() as pings:
        wait_until(lambda: outer(duo.hosts[1]) in str(known(duo, 0, "record")), "alice knows where bob is", AGAIN)
        until_connected(duo, AGAIN)
        wait_until(lambda: pings.answers, "pings go through", 5.0)
    assert duo.other(0).endpoint == f"{outer(duo.hosts[1])}:51820"
    assert "is reached through wg0" not in duo.words()


@full
def test_the_mark_comes_later(lab: Lab, tmp_path: Path) -> None:
    """wg-quick sets it last: what the agent opened before that leads into the tunnel, and is opened anew."""
    duo = Duo(lab, tmp_path, store=store_on(lab.public("store"), "redis"))
    duo.run(0)
    Words(duo, 0).wait("published to redis")
    words = Words(duo, 0)
    full_tunnel(duo, 0)
    words.wait("its firewall mark")
    duo.run(1)
    until_connected(duo)


def test_a_store_inside_the_tunnel(lab: Lab, tmp_path: Path) -> None:
    """A route of its own leads there even so, and that is said; without one it takes the configuration's word."""
    duo = Duo(lab, tmp_path, "public", "public")
    full_tunnel(duo, 0)
    for side in (0, 1):
        other = 1 - side
        allowed = "0.0.0.0/0" if side == 0 else f"{ADDRESSES[other]}/32"
        duo.tunnels[side].peer(duo.tunnels[other].public, allowed, endpoint=f"{duo.hosts[other].address}:51820")
    words = ["check", "-i", "wg0", "--stun", "none", *redis_on(duo.hosts[1], ADDRESSES[1])]
    found = command(duo, 0, *words)
    assert (found.returncode, "ok   redis" in found.stdout) == (0, True), found
    assert f"{ADDRESSES[1]} is reached through wg0: a store there cannot help while that is down" in found.stderr
    duo.hosts[0].ip(f"address add {ADDRESSES[0]}/32 dev wg0", f"address del {ADDRESSES[0]}/24 dev wg0")
    lost = command(duo, 0, *words)
    assert (lost.returncode, "FAIL redis" in lost.stdout) == (3, True), lost
    configure(duo, 0, "stores_through_tunnel = true\n")
    found = command(duo, 0, *words)
    assert (found.returncode, "ok   redis" in found.stdout, found.stderr) == (0, True, ""), found


@full
def test_a_strict_filter_is_said(lab: Lab, tmp_path: Path) -> None:
    """rp_filter 1 drops the answers to marked TCP: wg-quick's own rules put the mark back on UDP alone."""
    duo = Duo(lab, tmp_path)
    words = ["check", "-i", "wg0", "--stun", "none", *store_on(lab.public("store"), "redis")]
    settings = [f"net/ipv4/conf/{each}/rp_filter={{}}" for each in ("all", "eth0")]
    told = "answers over TCP are dropped at eth0"
    duo.hosts[0].sysctl(*(each.format(1) for each in settings))
    found = command(duo, 0, *words)
    assert (found.returncode, told in found.stderr) == (0, False), found
    full_tunnel(duo, 0)
    found = command(duo, 0, *words)
    assert (found.returncode, told in found.stderr) == (3, True), found
    duo.hosts[0].sysctl(settings[1].format(2))
    found = command(duo, 0, *words)
    assert (found.returncode, told in found.stderr) == (0, False), found


@full
def test_check_says_who_is_asked_for_names(lab: Lab, tmp_path: Path) -> None:
    duo = Duo(lab, tmp_path)
    full_tunnel(duo, 0)
    words = ["check", "-i", "wg0", "--stun", "none"]
    for server, told in (("192.0.2.53", True), (str(home(duo, 0).lans[0][1]), False)):
        resolve_by(duo, 0, server)
        found = command(duo, 0, *words, "-b", "folder", "-o", f"path={tmp_path / 'store'}")
        assert (f"note names: names are looked up at {server}, through wg0" in found.stdout) is told, found
