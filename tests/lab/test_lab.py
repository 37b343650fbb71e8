"""The lab proves itself: what it says about NATs, latency, loss and changes is measured with plain sockets."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab.lab import SITES, Lab, LabError, LabUnavailable
from tests.lab.nat import PROFILES
from tests.lab.space import HERE, wait_until
from tests.lab.stun import ADDRESS, BOTH, INDEPENDENT, Behaviour, ask, behaviour
from tests.support import cannot_run, require_binary

pytestmark = pytest.mark.lab

BEHAVIOUR = {
    "public": Behaviour(INDEPENDENT, INDEPENDENT),
    "masq": Behaviour(INDEPENDENT, BOTH),
    "masq_open": Behaviour(INDEPENDENT, BOTH),
    "addrrest": Behaviour(INDEPENDENT, ADDRESS),
    "fullcone": Behaviour(INDEPENDENT, INDEPENDENT),
    "hairpin": Behaviour(INDEPENDENT, INDEPENDENT),
    "sym": Behaviour(BOTH, BOTH),
    "fw": Behaviour(INDEPENDENT, BOTH),
    "dbl_masq": Behaviour(INDEPENDENT, BOTH),
    "dbl_sym": Behaviour(BOTH, BOTH),
    "fw6": Behaviour(INDEPENDENT, BOTH),
}


def receive(sock, seconds=1.0):
    """What arrives within `seconds`, or None."""
    sock.settimeout(seconds)
    try:
        return sock.recvfrom(2048)
    except TimeoutError:
        return None


def heard(sock):
    """How many datagrams arrive until it is quiet for 0.2 s."""
    return sum(1 for _ in iter(lambda: receive(sock, 0.2), None))


def survivors(mark):
    """The pids of processes that have `mark` in their environment, zombies not counted."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("kind", SITES)
def test_a_nat_maps_and_filters_as_its_name_says(lab, kind):
    stun = lab.stun()
    host = lab.site("host", kind)
    assert behaviour(host, stun.place6 if kind == "fw6" else stun.place) == BEHAVIOUR[kind]


def test_every_profile_has_a_site_and_an_expected_behaviour():
    assert set(PROFILES) < set(SITES) == set(BEHAVIOUR)


def test_masquerading_hides_the_host_and_a_firewall_does_not(lab):
    stun = lab.stun()
    hidden, open_ = lab.site("hidden", "masq"), lab.site("open", "fw")
    with hidden.socket() as probe:
        assert ask(probe, stun.place).mapped[0] == hidden.network.address
    with open_.socket() as probe:
        assert ask(probe, stun.place).mapped[0] == open_.address


@pytest.mark.parametrize(("profile", "passes"), [("hairpin", True), ("fullcone", False), ("masq", False)])
def test_only_a_hairpinning_router_connects_two_of_its_hosts_by_its_outer_address(lab, profile, passes):
    stun = lab.stun()
    home = lab.router("home", profile)
    with lab.host("a", home).socket() as first, lab.host("b", home).socket() as second:
        there, here = ask(first, stun.place).mapped, ask(second, stun.place).mapped
        first.sendto(b"hole", here)
        second.sendto(b"hello", there)
        assert (receive(first, 0.3) == (b"hello", here)) is passes


def test_both_homes_may_have_the_same_prefix_and_host_address(lab):
    stun = lab.stun()
    homes = [lab.router(name, "masq", lan="192.168.1.0/24") for name in ("home", "cafe")]
    hosts = [lab.host(name, home) for name, home in zip(("alice", "bob"), homes, strict=True)]
    assert [host.address for host in hosts] == ["192.168.1.10"] * 2
    with hosts[0].socket() as one, hosts[1].socket() as other:
        seen = [ask(sock, stun.place).mapped for sock in (one, other)]
        assert [address for address, _ in seen] == [home.address for home in homes]
        one.sendto(b"punch", seen[1])
        other.sendto(b"hello", seen[0])
        assert receive(one) == (b"hello", seen[1])


def test_an_early_packet_moves_the_mapping_only_where_the_router_accepts_it_itself(lab):
    """The trap of masq_open: the peer's packet takes the place in the connection table."""
    stun = lab.stun()
    for profile, moves in (("masq", False), ("masq_open", True)):
        host = lab.site(profile.replace("_", ""), profile)
        peer = lab.public(f"peer-{profile[-4:]}")
        with host.socket() as inner, peer.socket() as outer:
            outer.bind(("0.0.0.0", 4000))
            mapped = ask(inner, stun.place).mapped
            outer.sendto(b"early", mapped)
            assert receive(inner, 0.2) is None
            inner.sendto(b"late", (peer.address, 4000))
            assert (receive(outer)[1] != mapped) is moves


def test_latency_holds_every_packet_back_and_can_change(lab):
    a, b = lab.public("a"), lab.public("b")
    with a.socket() as here, b.socket() as there:
        there.bind((b.address, 4000))

        def one_way():
            start = time.monotonic()
            here.sendto(b"x", (b.address, 4000))
            assert receive(there, 5)
            return time.monotonic() - start

        one_way()
        a.cable.delay(0.05)
        one_way()
        assert min(one_way() for _ in range(5)) >= 0.05
        a.cable.delay(0)
        assert min(one_way() for _ in range(5)) < 0.05


def test_jitter_varies_the_latency_and_keeps_the_order(lab):
    a, b = lab.public("a"), lab.public("b")
    a.cable.delay(0.03, jitter=0.02)
    assert a.ping(b.address)
    with a.socket() as here, b.socket() as there:
        there.bind((b.address, 4000))
        for number in range(50):
            here.sendto(bytes([number]), (b.address, 4000))
        assert [receive(there, 5)[0][0] for _ in range(50)] == list(range(50))


def test_a_delayed_cable_carries_tcp_with_checksums_left_to_the_hardware(lab):
    a, b = lab.public("a"), lab.public("b")
    b.cable.delay(0.005)
    with b.socket(socket.SOCK_STREAM) as server, a.socket(socket.SOCK_STREAM) as client:
        server.bind((b.address, 80))
        server.listen()
        client.settimeout(10)
        client.connect((b.address, 80))
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as received:
            client.sendall(bytes(300_000))
            assert received.read(300_000) == bytes(300_000)


def test_loss_is_about_what_was_asked_for_in_each_direction_and_ends(lab):
    a, b = lab.public("a"), lab.public("b")
    with a.socket() as here, b.socket() as there:
        here.bind((a.address, 4000))
        there.bind((b.address, 4000))

        def arrivals(number):
            for _ in range(number):
                here.sendto(b"x", (b.address, 4000))
                there.sendto(b"x", (a.address, 4000))
            return [heard(there), heard(here)]

        a.cable.lose(30)
        assert all(200 < count < 360 for count in arrivals(400))
        a.cable.blackout()
        assert arrivals(20) == [0, 0]
        a.cable.lose(0)
        assert arrivals(20) == [20, 20]


def test_loss_stays_when_latency_is_added_and_when_the_host_moves(lab):
    homes = lab.router("home"), lab.router("cafe")
    host, peer = lab.host("host", homes[0]), lab.public("peer")
    with host.socket() as inner, peer.socket() as outer:
        outer.bind((peer.address, 4000))

        def passes():
            inner.sendto(b"x", (peer.address, 4000))
            return receive(outer, 0.2)

        assert passes()
        host.cable.blackout()
        assert not passes()
        host.cable.delay(0.001)
        assert not passes()
        host.move(homes[1])
        assert not passes()
        host.cable.lose(0)
        assert passes()[1][0] == homes[1].address


@pytest.mark.parametrize("profile", ["masq", "hairpin", "fw"])
def test_a_router_can_change_its_outer_address(lab, profile):
    stun = lab.stun()
    host = lab.site("host", profile)
    router, old = host.network, host.network.address
    with host.socket() as probe:
        before = ask(probe, stun.place).mapped
        router.readdress()
        lab.internet.ip("neigh flush dev internet")
        assert router.address != old
        assert ask(probe, stun.place).mapped == (before if profile == "fw" else (router.address, before[1]))
    assert behaviour(host, stun.place) == BEHAVIOUR[profile]


def test_a_router_that_reboots_forgets_its_mappings(lab):
    for profile in ("masq", "fullcone"):
        host = lab.site(profile, profile)
        peer = lab.public(f"peer-{profile[:4]}")
        with host.socket() as inner, peer.socket() as outer:
            outer.bind((peer.address, 4000))
            inner.sendto(b"hello", (peer.address, 4000))
            mapped = receive(outer)[1]
            outer.sendto(b"answer", mapped)
            assert receive(inner)
            host.network.reboot()
            outer.sendto(b"answer", mapped)
            assert receive(inner, 0.3) is None


def test_a_mapping_dies_after_the_time_a_router_remembers(lab):
    """Two times: of a flow that was not answered over 2 s, and of one that was."""
    host, peer = lab.site("host", "masq"), lab.public("peer")
    host.network.remember(unanswered=1, answered=4)
    with host.socket() as busy, host.socket() as idle, peer.socket() as outer:
        outer.bind((peer.address, 4000))

        def exchange(sock, times):
            for _ in range(times):
                sock.sendto(b"hello", (peer.address, 4000))
                place = receive(outer)[1]
                outer.sendto(b"answer", place)
                assert receive(sock)
                time.sleep(0.3)
            return place

        used, unused = exchange(busy, 9), exchange(idle, 1)
        time.sleep(1.5)
        outer.sendto(b"late", unused)
        outer.sendto(b"late", used)
        assert receive(idle, 0.2) is None
        assert receive(busy)
        time.sleep(5.5)
        outer.sendto(b"later", used)
        assert receive(busy, 0.2) is None


def test_a_host_can_change_its_address_and_move_to_another_network(lab):
    stun = lab.stun()
    home, cafe = lab.router("home"), lab.router("cafe", ipv6=True)
    host = lab.host("host", home)
    host.readdress(f"{home.lans[0][77]}/24")
    assert host.address == "192.168.1.77"
    with host.socket() as probe:
        assert ask(probe, stun.place).mapped[0] == home.address
    host.move(cafe)
    assert host.address == "192.168.2.10"
    with host.socket() as probe:
        assert ask(probe, stun.place).mapped[0] == cafe.address


def test_ipv6_passes_a_router_untranslated_beside_translated_ipv4(lab):
    stun = lab.stun()
    host = lab.host("host", lab.router("home", "sym", ipv6=True))
    with host.socket(family=socket.AF_INET6) as probe:
        assert ask(probe, stun.place6).mapped[0] == "2001:db8:1::a"
    assert behaviour(host, stun.place) == BEHAVIOUR["sym"]


def test_an_outer_address_outside_the_documentation_prefixes_can_be_had(lab):
    stun = lab.stun()
    home = lab.router("home", address="100.200.0.10/24")
    with lab.host("host", home).socket() as probe:
        assert ask(probe, stun.place).mapped[0] == "100.200.0.10"


def test_two_wireguard_hosts_behind_nats_ping_each_other(lab):
    homes = [lab.router(name, "masq", lan="192.168.1.0/24") for name in ("home", "cafe")]
    a, b = (lab.host(name, home).wireguard("wg0", address) for name, home, address in
            (("alice", homes[0], "10.9.0.1/24"), ("bob", homes[1], "10.9.0.2/24")))  # fmt: skip
    a.peer(b.public, "10.9.0.2/32", endpoint=f"{homes[1].address}:51820", keepalive=25)
    time.sleep(0.05)  # both within one round trip collide and wait for 5 s
    b.peer(a.public, "10.9.0.1/32", endpoint=f"{homes[0].address}:51820", keepalive=25)
    assert b.wait_handshake(a.public) > 0
    assert a.host.ping("10.9.0.2")
    assert a.peers()[b.public].endpoint == f"{homes[1].address}:51820"
    assert a.peers()[b.public]["allowed_ip"] == "10.9.0.2/32"
    a.remove(b.public)
    assert a.peers() == {}


def test_hosts_do_not_see_each_others_files_and_nobody_outside_does(lab):
    a, b = lab.public("a"), lab.public("b")
    for folder in ("/run", "/etc", "/var/lib"):
        name = f"{folder}/wgdisco-lab-test"
        a.run("sh", "-c", f"echo secret > {name}")
        assert a.path(name).read_text() == "secret\n"
        assert not b.path(name).exists()
        assert not Path(name).exists()


def test_a_function_runs_in_a_host_and_returns_or_raises(lab):
    host = lab.public("host")
    assert host.call(own_addresses) == ["lo", "eth0"]
    assert host.call(add_later, 2, 3) == 5
    with pytest.raises(ZeroDivisionError):
        host.call(divide, 1, 0)


def own_addresses():
    return [name for _, name in socket.if_nameindex()]


async def add_later(one, other):
    await asyncio.sleep(0)
    return one + other


def divide(one, other):
    return one / other


def test_a_thread_can_enter_a_host_as_root_and_is_told_what_to_do_otherwise(lab):
    host = lab.public("host")
    if lab.space.user:
        with pytest.raises(LabError, match=r"use node\.call\(\) or node\.socket\(\)"), host.enter():
            pass
        return
    before = socket.if_nameindex()
    with host.enter():
        assert own_addresses() == ["lo", "eth0"]
    assert socket.if_nameindex() == before


def test_signals_reach_the_program_and_its_exit_status_comes_back(lab):
    host = lab.public("host")
    process = host.popen("sleep", "100")
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: " T " in Path(f"/proc/{process.inner}/stat").read_text(), "the program has stopped")
    process.send_signal(signal.SIGCONT)
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM
    assert host.run("sh", "-c", "exit 3", check=False).returncode == 3


def test_a_failing_program_is_quoted(lab):
    with pytest.raises(
        LabError, match=r"^host: ip -batch -: exit 1\nCannot find device .nonsense.\n(?s:.*)nonsense up$"
    ):
        lab.public("host").ip("link set nonsense up")
    with pytest.raises(LabError, match=r"sleep 100: not done in 0\.1 s"):
        lab.internet.run("sleep", "100", timeout=0.1)


def test_the_machines_own_network_is_untouched(make_lab):
    before = socket.if_nameindex(), Path("/proc/self/ns/net").readlink(), Path("/run/netns").exists()
    with make_lab() as lab:
        lab.site("host", "masq").wireguard("wg0", "10.9.0.1/24")
        assert (socket.if_nameindex(), Path("/proc/self/ns/net").readlink(), Path("/run/netns").exists()) == before


def test_labs_run_beside_each_other_with_the_same_names(make_lab):
    for lab in (make_lab(), make_lab()):
        lab.site("host", "masq").wireguard("wg0", "10.9.0.1/24")


ROOT = HERE.parent.parent
PROGRAM = """
import signal, sys
from tests.lab.lab import Lab
lab = Lab()
host = lab.site("host", "masq")
host.cable.delay(0.01)
wireguard = host.wireguard("wg0", "10.9.0.1/24")
stopped = host.popen("sleep", "1000")
stopped.send_signal(signal.SIGSTOP)
print("ready", flush=True)
sys.stdin.read()
"""


def started_lab(mark, *prefix, python=sys.executable):
    """A process with a lab full of programs, all of which have `mark` in their environment."""
    environment = {**os.environ, "WGDISCO_LAB_MARK": mark, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*prefix, python, "-c", PROGRAM], stdin=pipe, stdout=pipe, stderr=pipe, env=environment, text=True
    )
    if process.stdout.readline() != "ready\n":
        _, errors = process.communicate()
        cannot_run(f"lab: {errors.strip().splitlines()[-1]}", "WGDISCO_LAB")
    return process


def test_nothing_is_left_after_sigkill_of_the_tests():
    mark = os.urandom(8).hex()
    process = started_lab(mark)
    assert len(survivors(mark.encode())) >= 4
    with process:
        process.kill()
    wait_until(lambda: not survivors(mark.encode()), "every process of the lab has ended")


def test_nothing_is_left_after_an_orderly_end(make_lab):
    lab = make_lab()
    host = lab.site("host", "masq")
    host.wireguard("wg0", "10.9.0.1/24")
    programs = [program.pid for program in lab.space.programs]
    lab.close()
    assert [pid for pid in (*programs, host.pid) if Path(f"/proc/{pid}").exists()] == []


def test_a_lab_needs_no_privilege(make_lab):
    """In a user namespace, as an unprivileged user where we are root."""
    if os.geteuid():
        make_lab()
        return
    nobody = (require_binary("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if (
            subprocess.run([*nobody, "sh", "-c", '"$0" -c ""', python], check=False, capture_output=True).returncode
            == 0
        ):
            break
    else:
        pytest.skip(f"{sys.executable} lies where an ordinary user cannot run it")
    with started_lab("", *nobody, python=python) as process:
        process.stdin.close()
        assert process.wait(10) == 0


def test_everything_works_in_a_user_namespace(make_lab):
    lab = make_lab(user=True)
    stun = lab.stun()
    host = lab.site("host", "addrrest")
    host.network.remember(3, 8)
    host.network.reboot()
    host.cable.delay(0.001)
    host.cable.lose(1)
    wireguard = host.wireguard("wg0", "10.9.0.1/24")
    assert wireguard.peers() == {}
    assert behaviour(host, stun.place).mapping == INDEPENDENT
    assert host.call(own_addresses) == ["lo", "eth0", "wg0"]


def test_a_missing_tool_is_named_with_the_line_that_installs_it(make_lab, monkeypatch):
    monkeypatch.setattr("tests.lab.space.PATH", "/nonexistent")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("WGDISCO_LAB", raising=False)
    with pytest.raises(
        pytest.skip.Exception, match=r"^lab: ip, nft, .*wireguard-go not found; install with: apt install"
    ):
        make_lab()


@pytest.mark.parametrize(("variable", "value"), [("CI", "true"), ("WGDISCO_LAB", "require")])
def test_a_lab_that_is_required_fails_instead_of_being_skipped(make_lab, monkeypatch, variable, value):
    monkeypatch.setattr("tests.lab.space.PATH", "/nonexistent")
    monkeypatch.setenv(variable, value)
    with pytest.raises(pytest.fail.Exception, match=r"^lab: ip, nft, "):
        make_lab()


def test_a_refused_namespace_is_said_with_the_systems_reason(tmp_path, monkeypatch):
    """`unshare` is refused in most containers; here a stand-in refuses."""
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr("tests.lab.space.PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(LabError, match=r"^no namespaces: unshare: unshare failed: Operation not permitted$"):
        Lab()


def test_namespaces_that_cannot_be_furnished_make_the_lab_unavailable_and_end_it(monkeypatch):
    """A kernel without overlays in user namespaces, say; here a request for a node that is refused."""
    spaces = []

    def refused(space, request):
        spaces.append(space)
        raise LabError("mount of overlay on /etc: Operation not permitted")

    monkeypatch.setattr("tests.lab.space.Space._ask", refused)
    with pytest.raises(LabUnavailable, match=r"^no namespaces: mount of overlay on /etc: Operation not permitted$"):
        Lab()
    assert spaces[0]._holder.returncode is not None
