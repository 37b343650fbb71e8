"""The agent when things break around it: the interface, itself, stores, the clock, a second agent with its key.

Times are limits and not figures. Real wireguard-go, real NAT, real stores.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.duo import ADDRESSES, Duo
from tests.lab.faults import (
    Sites,
    Words,
    bring_back,
    command,
    configure,
    full_tunnel,
    home,
    known,
    outer,
    plugin,
    redis,
    run_both,
    steady,
    take_away,
    tracebacks,
    until_connected,
)
from tests.lab.lab import Lab
from tests.lab.space import wait_until
from tests.lab.stun import StunServer
from wgdisco.keys import PrivateKey

pytestmark = pytest.mark.lab
full = pytest.mark.full

SOON = 20.0  # seconds for what happens at once on a machine that has nothing else to do
AGAIN = 60.0  # seconds to a handshake after a fault
WATCHDOG = 20.0  # seconds without a sign of life that are too many: the unit allows 60
CALM = 8.0  # seconds for which nothing may happen


def connected(lab: Lab, folder: Path, *sites: str, **options) -> Duo:
    """Two agents that have connected their hosts."""
    duo = Duo(lab, folder, *sites, **options)
    run_both(duo)
    until_connected(duo)
    return duo


def alive(duo: Duo) -> bool:
    """Whether every agent is still there, and has said nothing that only programmers understand."""
    assert tracebacks(duo) == []
    return all(agent.poll() is None for agent in duo.agents.values())


# ---- the interface


def test_an_interface_that_goes_and_comes_back(lab: Lab, tmp_path: Path) -> None:
    """The agent stays, says a good-bye after 3 s, and connects again when the interface is back."""
    duo = connected(lab, tmp_path)
    words = Words(duo, 0)
    take_away(duo, 0)
    words.wait("good-bye said to folder")
    words.wait("waiting")
    wait_until(lambda: "candidates" not in known(duo, 1, "record"), "bob knows of the good-bye", SOON)
    bring_back(duo, 0)
    until_connected(duo, AGAIN)
    assert alive(duo), duo.words()


@full
def test_an_interface_that_is_down_for_a_moment(lab: Lab, tmp_path: Path) -> None:
    """As with `wg-quick down` and `up`: no good-bye. wireguard-go is killed, so that its socket is left behind."""
    duo = connected(lab, tmp_path)
    words = Words(duo, 0)
    take_away(duo, 0, signal.SIGKILL)
    time.sleep(1.5)  # so long that the agent sees it missing
    bring_back(duo, 0)
    words.wait("connected at", AGAIN)
    until_connected(duo, AGAIN)
    assert "good-bye" not in str(words)
    assert alive(duo), duo.words()


@full
def test_an_interface_that_is_missing_at_the_start(lab: Lab, tmp_path: Path) -> None:
    """It is waited for, and `status` says so meanwhile."""
    duo = Duo(lab, tmp_path)
    take_away(duo, 0)
    run_both(duo)
    Words(duo, 0).wait("waiting for it")
    path = duo.hosts[0].path("/run/wgdisco/wg0/state.json")
    wait_until(lambda: path.exists() and duo.state(0)["state"] == "waiting", "the state file says so", SOON)
    assert "wg0" in duo.state(0)["trouble"]
    bring_back(duo, 0)
    until_connected(duo, AGAIN)
    assert alive(duo), duo.words()


@full
def test_another_listen_port(lab: Lab, tmp_path: Path) -> None:
    """The tunnel goes on by way of the new port, and the record names it."""
    duo = connected(lab, tmp_path)
    words = Words(duo, 0)
    duo.tunnels[0].set("listen_port=40000")
    words.wait("its listen port changed")
    wait_until(lambda: f"{outer(duo.hosts[0])}:40000" in str(known(duo, 1, "record")), "bob knows the port", SOON)
    until_connected(duo, AGAIN)
    assert alive(duo), duo.words()


def test_a_peer_is_added_and_another_one_removed(lab: Lab, tmp_path: Path) -> None:
    """Who is added is connected; who is removed is seen no more, and nobody complains."""
    duo = Duo(lab, tmp_path)
    stranger = duo.tunnels[0].public
    duo.tunnels[1].remove(stranger)
    run_both(duo)
    wait_until(lambda: known(duo, 0) == "searching", "alice seeks bob", SOON)
    words = Words(duo, 1)
    duo.tunnels[1].peer(stranger, f"{ADDRESSES[0]}/32")
    words.wait("its peers changed")
    until_connected(duo, AGAIN)
    words = Words(duo, 1)
    duo.tunnels[1].remove(stranger)
    words.wait("its peers changed")
    wait_until(lambda: not duo.state(1).get("peers"), "bob's state has no peer", SOON)
    time.sleep(CALM)
    assert len(str(words).splitlines()) < 10, duo.words()
    assert duo.tunnels[1].peers() == {}
    assert alive(duo), duo.words()


@full
def test_another_key(lab: Lab, tmp_path: Path) -> None:
    """The agent becomes another node: peers that know its new key find it."""
    duo = connected(lab, tmp_path)
    words = Words(duo, 0)
    old = duo.tunnels[0].public
    take_away(duo, 0)
    bring_back(duo, 0, private=bytes(range(32)))
    duo.tunnels[1].remove(old)
    duo.tunnels[1].peer(duo.tunnels[0].public, f"{ADDRESSES[0]}/32")
    words.wait(duo.tunnels[0].public.short)
    until_connected(duo, AGAIN)
    assert alive(duo), duo.words()


@full
def test_another_key_in_place(lab: Lab, tmp_path: Path) -> None:
    """`wg set wg0 private-key`: the interface stays, and only the key is another one."""
    duo = connected(lab, tmp_path)
    words = Words(duo, 0)
    old, bob = duo.tunnels[0], duo.tunnels[1].public
    duo.tunnels[0].set(f"private_key={bytes(range(32)).hex()}")
    words.wait("its key changed")
    wait_until(lambda: duo.state(0).get("key") not in (None, str(old.public)), "the state has the new key", SOON)
    public = PrivateKey(bytes(range(32))).public
    duo.tunnels[1].remove(old.public)
    duo.tunnels[1].peer(public, f"{ADDRESSES[0]}/32")
    old.public = public
    assert bob in duo.tunnels[0].peers()
    until_connected(duo, AGAIN)
    wait_until(
        lambda: known(duo, 1, "key") == str(public) and known(duo, 1, "record"),
        "bob knows a record of the new key",
        SOON,
    )
    assert alive(duo), duo.words()


# ---- signals


def test_sigterm_leaves_the_tunnel(lab: Lab, tmp_path: Path) -> None:
    """Exit code 0, not one ping lost, no good-bye, and the state file says stopped."""
    duo = connected(lab, tmp_path)
    words = Words(duo, 0)
    with duo.pinging() as pings:
        time.sleep(1.0)
        assert duo.stop(0) == 0
        time.sleep(CALM)
        assert len(pings.answers) > CALM / pings.pause / 2
        assert pings.lost == 0, duo.words()
    assert duo.state(0)["state"] == "stopped"
    assert "good-bye" not in str(words)
    assert "candidates" in known(duo, 1, "record")
    status = command(duo, 0, "status")
    assert (status.returncode, "stopped" in status.stdout) == (1, True), status
    assert tracebacks(duo) == []


@full
def test_sigkill_is_seen_and_leaves_the_tunnel(lab: Lab, tmp_path: Path) -> None:
    """`status` calls the agent dead; another one starts beside what the first one left."""
    duo = connected(lab, tmp_path)
    with duo.pinging() as pings:
        time.sleep(1.0)
        duo.stop(0, signal.SIGKILL)
        status = command(duo, 0, "status")
        assert (status.returncode, "agent: dead" in status.stdout) == (1, True), status
        duo.run(0)
        wait_until(lambda: command(duo, 0, "status").returncode == 0, "the next agent runs", SOON)
        time.sleep(2.0)
        assert pings.lost == 0, duo.words()
    assert alive(duo), duo.words()


@full
def test_a_second_agent_is_refused(lab: Lab, tmp_path: Path) -> None:
    """Neither it nor what is typed beside the first one changes anything; after a kill there is room for another."""
    duo = connected(lab, tmp_path)
    before = duo.other(0)
    pid = duo.state(0)["pid"]
    second = command(duo, 0, "run", "-i", "wg0", *duo.options)
    assert second.returncode == 2, second
    assert f"wg0: the agent (pid {pid}) is at work on it" in second.stderr
    assert "systemctl stop wgdisco@wg0" in second.stderr
    once = command(duo, 0, "run", "--once", "-i", "wg0", *duo.options)
    assert (once.returncode, "nothing was done" in once.stderr) == (0, True), once
    assert (duo.state(0)["pid"], duo.other(0).endpoint) == (pid, before.endpoint)
    duo.stop(0, signal.SIGKILL)
    words = Words(duo, 0)
    duo.run(0)
    words.wait("published to folder")
    assert "at work" not in str(words)
    assert alive(duo), duo.words()


@full
def test_leave_says_good_bye(lab: Lab, tmp_path: Path) -> None:
    duo = Duo(lab, tmp_path)
    duo.run(0, "--leave")
    duo.run(1)
    until_connected(duo)
    words = Words(duo, 0)
    assert duo.stop(0) == 0
    assert "good-bye said to folder" in str(words)
    wait_until(lambda: "candidates" not in known(duo, 1, "record"), "bob knows of the good-bye", SOON)
    assert duo.hosts[0].ping(ADDRESSES[1])


def test_sighup_reads_the_configuration_again(lab: Lab, tmp_path: Path) -> None:
    """Another backend is used from then on; a broken file is said and changes nothing; no ping is lost."""
    duo = Duo(lab, tmp_path)
    stun = [duo.options[index + 1] for index, word in enumerate(duo.options) if word == "--stun"]
    second = tmp_path / "second"
    second.mkdir()
    plain = f"stun = {stun}\n[backends.folder]\npath = '{tmp_path / 'store'}'\n"
    command_file = tmp_path / "store.sh"
    command_file.write_text(EXEC.format(folder=second))
    command_file.chmod(0o755)
    configure(duo, 0, plain)
    options, duo.options = duo.options, []
    duo.run(0)
    duo.options = options
    duo.run(1)
    until_connected(duo)
    with duo.pinging() as pings:
        words = Words(duo, 0)
        configure(duo, 0, f"{plain}[backends.exec]\ncommand = '{command_file}'\n")
        duo.agents[0].send_signal(signal.SIGHUP)
        words.wait("published to exec")
        assert list(second.iterdir())
        words = Words(duo, 0)
        configure(duo, 0, "stun = 'what\n")
        duo.agents[0].send_signal(signal.SIGHUP)
        words.wait("the configuration before that stays in use")
        wait_until(
            lambda: [each["name"] for each in duo.state(0).get("backends", [])] == ["folder", "exec"],
            "both stores are still used",
            SOON,
        )
        for unusable in ("[backends.etdc]\n", "[backends.folder]\npaht = '/'\n", f"to = 'network'\n{plain}"):
            words = Words(duo, 0)
            configure(duo, 0, unusable)
            duo.agents[0].send_signal(signal.SIGHUP)
            words.wait("the configuration before that stays in use")
            assert len(str(words).splitlines()) == 1, str(words)
        until_connected(duo)
        assert pings.lost == 0, duo.words()
    assert alive(duo), duo.words()


EXEC = """#!/bin/sh
case $1 in
put) cat >{folder}/$2 ;;
get) cat {folder}/$2 2>/dev/null || true ;;
esac
"""


@full
def test_a_sleep_is_noticed(lab: Lab, tmp_path: Path) -> None:
    """SIGSTOP stands for suspend: whoever wakes up looks at everything anew."""
    duo = connected(lab, tmp_path)
    words = Words(duo, 0)
    duo.agents[0].send_signal(signal.SIGSTOP)
    time.sleep(10.0)
    duo.agents[0].send_signal(signal.SIGCONT)
    words.wait("this host slept")
    until_connected(duo, AGAIN)
    assert str(words).count("slept") == 1
    assert alive(duo), duo.words()


CLOCK = """
import time

def wall(shown=time.time):
    with open({path!r}) as ahead:
        return shown() + int(ahead.read() or 0)

time.time, time.time_ns = wall, lambda: int(wall() * 1e9)
"""


@full
@pytest.mark.parametrize("step", [3600, -3600], ids=["forward", "back"])
def test_a_clock_that_is_set_and_mended_costs_nothing(lab: Lab, tmp_path: Path, step: int) -> None:
    """Of one agent only: the tunnel stays as it is, and the record is signed anew each time, within seconds."""
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(CLOCK.format(path=str(ahead)))
    duo = Duo(lab, tmp_path)
    duo.run(0, env={"PYTHONPATH": str(tmp_path)})
    duo.run(1)
    until_connected(duo)
    with duo.pinging() as pings:
        for seconds, way in ((step, "forward" if step > 0 else "back"), (0, "back" if step > 0 else "forward")):
            words = Words(duo, 0)
            ahead.write_text(str(seconds))
            words.wait(f"the clock was set {way} by 3600 s", 5.0)
            words.wait("published to folder", 5.0)
            steady(lambda: known(duo, 0) == known(duo, 1) == "connected", CALM, "both are connected")
            assert "removed and added again" not in str(words)
        assert pings.lost == 0, duo.words()
    assert known(duo, 1, "record")["issued"] == duo.state(0)["issued"]
    assert alive(duo), duo.words()


@full
def test_a_wireguard_go_that_stands_still_does_not_starve_the_watchdog(lab: Lab, tmp_path: Path) -> None:
    """Nine peers ask for it, each in its own time; whoever asks waits, and everything else with it."""
    duo = Duo(lab, tmp_path)
    for number in range(8):
        duo.tunnels[0].peer(PrivateKey(bytes([number + 1]) * 32).public, f"10.9.1.{number}/32")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WATCHDOG)
        duo.run(0, env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"})
        duo.run(1)
        duo.connected()
        words = Words(duo, 0)
        duo.tunnels[0].process.send_signal(signal.SIGSTOP)
        try:
            end = time.monotonic() + 3 * WATCHDOG
            while time.monotonic() < end:
                manager.recv(4096)  # raises TimeoutError when nothing is heard for so long
            words.wait("does not answer: timed out")
        finally:
            duo.tunnels[0].process.send_signal(signal.SIGCONT)
        words = Words(duo, 0)
        words.wait("port 51820, 9 peers", WATCHDOG)
        duo.connected(AGAIN)
    assert alive(duo), duo.words()


@full
@pytest.mark.parametrize("case", ["connected", "unknown peer", "no store"])
def test_once_tells_the_truth(lab: Lab, tmp_path: Path, case: str) -> None:
    """0: stored and all connected; 1: a peer is not; 3: no store took the record."""
    duo = Duo(lab, tmp_path)
    if case == "connected":
        duo.run(1)
        wait_until(lambda: list((tmp_path / "store").iterdir()), "bob has published", SOON)
    if case == "no store":
        (tmp_path / "store").rmdir()
    words = ["run", "--once", "-i", "wg0", *duo.options]
    done = command(duo, 0, *words, *([] if case == "connected" else ["--timeout", "6"]))
    assert done.returncode == {"connected": 0, "unknown peer": 1, "no store": 3}[case], done
    assert case != "unknown peer" or f"{duo.tunnels[1].public.short}: no record of it was found" in done.stderr
    assert case != "connected" or duo.hosts[0].ping(ADDRESSES[1])
    assert "Traceback" not in done.stderr


# ---- stores


@full
def test_one_of_two_stores_dies_and_comes_back(lab: Lab, tmp_path: Path) -> None:
    """The other one carries what is new; that one is down is said once, and it is used again when it is back."""
    with redis() as server:
        folder = ["-b", "folder", "-o", f"folder.path={tmp_path / 'store'}"]
        duo = connected(lab, tmp_path, store=[*folder, *server.options])
        words = Words(duo, 0)
        server.kill()
        with duo.pinging() as pings:
            time.sleep(1.0)
            duo.hosts[0].readdress()
            time.sleep(CALM)
            assert len(pings.answers) > CALM / pings.pause / 2, duo.words()
        assert known(duo, 1) == "connected"
        server.start()
        # everything was lost with the server: what is there now was put there again
        wait_until(lambda: not duo.state(0)["backends"][1].get("error"), "redis is well again", AGAIN)
        wait_until(lambda: server.keys() >= 2, "both records are in redis again", AGAIN)
        # once for reading and once for writing, however often it was tried
        said = [str(words).count(each) for each in ("wgdisco: redis: ", "wgdisco: not published: redis: ")]
        assert said == [1, 1], duo.words()
        assert alive(duo), duo.words()


@full
def test_all_stores_die_and_come_back(lab: Lab, tmp_path: Path) -> None:
    """The tunnel goes on, and what the store has lost with its memory is put there again."""
    with redis() as server:
        duo = connected(lab, tmp_path, store=server.options)
        for side in (0, 1):  # the last thing that is published without a reason
            wait_until(lambda side=side: "unknown" not in duo.state(side)["nat"], "the NAT was measured", SOON)
        time.sleep(2.0)
        assert server.keys() >= 2
        with duo.pinging() as pings:
            server.kill()
            time.sleep(CALM)
            assert len(pings.answers) > CALM / pings.pause / 2
            assert pings.lost == 0, duo.words()
        server.start()
        wait_until(lambda: server.keys() >= 2, "both records are there again", 2 * AGAIN)
        assert alive(duo), duo.words()


@full
def test_all_stores_are_down_at_the_start(lab: Lab, tmp_path: Path) -> None:
    """The interface is left as it is until there is something to be known."""
    with redis() as server:
        server.kill()
        duo = Duo(lab, tmp_path, store=server.options)
        before = [tunnel.get() for tunnel in duo.tunnels]
        words = [Words(duo, side) for side in (0, 1)]
        run_both(duo)
        for each in words:
            each.wait("not published: redis")
        steady(lambda: [tunnel.get() for tunnel in duo.tunnels] == before, CALM, "the interfaces are untouched")
        server.start()
        until_connected(duo, AGAIN)
        assert alive(duo), duo.words()


def test_a_store_that_freezes_holds_up_nothing(lab: Lab, tmp_path: Path) -> None:
    """It takes connections and never answers, from the start on: the other store connects, and tells what moved."""
    with redis() as server:
        server.freeze()
        folder = ["-b", "folder", "-o", f"folder.path={tmp_path / 'store'}"]
        duo = connected(lab, tmp_path, store=[*folder, *server.options])
        before = known(duo, 1, "record")["issued"]
        duo.hosts[0].readdress()
        wait_until(lambda: known(duo, 1, "record")["issued"] > before, "bob knows where alice is now", SOON)
        until_connected(duo, SOON)
        server.thaw()
        wait_until(lambda: server.keys() >= 2, "both records are in redis at last", AGAIN)
        assert alive(duo), duo.words()


@full
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-b", "exec", "-o", "exec.comand=true"], "comand"),
        (["-b", "needy"], "needs no_such_library; install it with: pip install wgdisco-needy"),
        (["-b", "nosuch"], "nosuch"),
        (["-b", "exec", "-o", "exec.command=/no/such/program"], "/no/such/program"),
    ],
    ids=["unknown option", "missing library", "unknown backend", "missing program"],
)
def test_a_backend_that_cannot_be_used_is_said(
    lab: Lab, tmp_path: Path, monkeypatch, more: list[str], said: str
) -> None:
    """The others are used."""
    plugin(tmp_path, "needy", "import no_such_library\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    folder = ["-b", "folder", "-o", f"folder.path={tmp_path / 'store'}"]
    duo = Duo(lab, tmp_path, store=[*folder, *more])
    words = Words(duo, 0)
    duo.run(0)
    duo.run(1)
    words.wait(said)
    until_connected(duo)
    assert alive(duo), duo.words()


ENDS = """
import wgdisco

class Ends(wgdisco.Backend):
    \"\"\"Ends the program whenever it is asked something.\"\"\"
    name = "ends"
    poll = 1.0

    async def open(self):
        {open}

    async def put(self, slot, blob, lifetime):
        raise SystemExit("enough of put")

    async def get(self, slot):
        raise SystemExit("enough of get")

    async def close(self):
        raise SystemExit("enough of close")

@wgdisco.hookimpl
def wgdisco_backends():
    return [Ends]
"""


@pytest.mark.parametrize(
    "when", ["raise SystemExit('enough')", pytest.param("pass", marks=full)], ids=["open", "calls"]
)
def test_a_plugin_that_wants_to_end_the_program(lab: Lab, tmp_path: Path, monkeypatch, when: str) -> None:
    """The daemon lives, the tunnel through the other store works, and the end is orderly."""
    plugin(tmp_path, "ends", ENDS.format(open=when))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    folder = ["-b", "folder", "-o", f"folder.path={tmp_path / 'store'}"]
    duo = Duo(lab, tmp_path, store=["-b", "ends", *folder])
    for side in (0, 1):
        duo.run(side)
    until_connected(duo)
    time.sleep(CALM)
    assert alive(duo), duo.words()
    assert "ends: " in duo.words()
    assert [duo.stop(side) for side in (0, 1)] == [0, 0]


@full
def test_nothing_new_is_not_published(lab: Lab, tmp_path: Path) -> None:
    """Behind a symmetric NAT two servers see two ports, and which of them answers first is by chance."""
    duo = connected(lab, tmp_path, "sym", "fullcone")
    wait_until(lambda: "unknown" not in duo.state(0)["nat"], "the NAT was measured", SOON)
    time.sleep(5.0)
    said = duo.state(0)["counters"]["publishes"]
    time.sleep(85.0)  # four looks
    assert duo.state(0)["counters"]["publishes"] == said, duo.words()
    assert alive(duo), duo.words()


@contextmanager
def silent(*servers: StunServer) -> Iterator[None]:
    """STUN servers that hear nothing."""
    for server in servers:
        server.host.nft(
            "table inet silent {\nchain in {\ntype filter hook input priority 0\nudp dport 3478-3479 drop\n}\n}\n"
        )
    try:
        yield
    finally:
        for server in servers:
            server.host.nft("delete table inet silent\n")


@pytest.mark.parametrize(
    ("sites", "number"),
    [(("masq", "masq"), 2), pytest.param(("sym", "fullcone"), 1, marks=full)],
    ids=["all", "one of two before a symmetric NAT"],
)
def test_silent_stun_servers_change_nothing(lab: Lab, tmp_path: Path, sites: tuple[str, str], number: int) -> None:
    """For two looks: the records keep what servers saw, nothing is published, and not one ping is lost."""
    duo = connected(lab, tmp_path, *sites)
    for side in (0, 1):  # the last thing that is published without a reason
        wait_until(lambda side=side: "unknown" not in duo.state(side)["nat"], "the NAT was measured", SOON)
    time.sleep(5.0)

    def said() -> list[object]:
        states = [duo.state(side) for side in (0, 1)]
        kinds = [sorted((each["kind"], each["endpoint"]) for each in state["candidates"]) for state in states]
        return [kinds, *((state["counters"]["publishes"], state["nat"], state["translated"]) for state in states)]

    before = said()
    assert str(before).count("server-reflexive") >= 2
    with duo.pinging() as pings:
        with silent(*duo.servers[:number]):
            time.sleep(25.0)
            problems = [duo.state(side).get("problems", []) for side in (0, 1)]
            steady(lambda: said() == before, 20.0, "the record")
        steady(lambda: said() == before, 25.0, "the record, when they answer again")
        assert pings.lost == 0, duo.words()
    # they were truly silent
    assert all(any("no answer in time" in each for each in some) for some in problems), problems
    assert alive(duo), duo.words()


# ---- two agents with one key


@full
def test_two_agents_with_one_key(lab: Lab, tmp_path: Path) -> None:
    """Peers keep the record that was published last; who had the session gets it back, and nobody fights about either.

    WireGuard gives the session to whoever made the last handshake: that costs the other one up to 15 s, agents or not.
    """
    duo = connected(lab, tmp_path)
    clone = lab.site("clone", "masq")
    twin = clone.wireguard("wg0", f"{ADDRESSES[0]}/24", private=base64.b64decode(duo.tunnels[0].private))
    twin.peer(duo.tunnels[1].public, f"{ADDRESSES[1]}/32")
    with (tmp_path / "clone.log").open("w") as log, duo.pinging() as pings:
        agent = clone.wgdisco("run", "-i", "wg0", *duo.options, stdout=log, stderr=log)
        wait_until(lambda: outer(clone) in str(known(duo, 1, "record")), "bob knows the other record", SOON)
        began = time.time()
        pings.outage(began, AGAIN)
        # each agent may look again and say so, but none answers the other's record with one of its own
        time.sleep(CALM)
        said = [duo.state(side)["counters"]["publishes"] for side in (0, 1)]
        time.sleep(25.0)
        assert [duo.state(side)["counters"]["publishes"] for side in (0, 1)] == said, duo.words()
        assert len([when for when in pings.answers.values() if when > began]) > 15 / pings.pause, duo.words()
        assert agent.poll() is None
    assert outer(clone) in str(known(duo, 1, "record"))
    assert known(duo, 1) == "connected"
    assert duo.state(1)["counters"]["moves"] <= 1, duo.words()
    assert alive(duo), duo.words()


# ---- ways of using a tunnel


def test_a_full_tunnel(lab: Lab, tmp_path: Path) -> None:
    """AllowedIPs 0.0.0.0/0: STUN does not go through the tunnel, or the record would name the other side's address."""
    duo = Duo(lab, tmp_path)
    full_tunnel(duo, 0)
    other = home(duo, 1)
    duo.hosts[1].sysctl("net/ipv4/ip_forward=1")
    duo.hosts[1].nft(
        "table ip nat {\nchain post {\ntype nat hook postrouting priority srcnat\noifname eth0 masquerade\n}\n}\n"
    )
    run_both(duo)
    until_connected(duo)
    assert duo.hosts[0].ping(lab.internet.gateway(other.addresses[0]))  # by way of bob
    # the agent looks again with the tunnel up
    duo.stop(0)
    duo.run(0)
    until_connected(duo)
    published = [each["endpoint"] for each in known(duo, 1, "record")["candidates"]]
    assert sorted(published) == sorted([f"{duo.hosts[0].address}:51820", f"{outer(duo.hosts[0])}:51820"])
    assert alive(duo), duo.words()


@full
def test_site_to_site(lab: Lab, tmp_path: Path) -> None:
    """AllowedIPs of the other LAN: the hosts behind both ends reach each other, the tunnel does not go through itself."""
    duo = Duo(lab, tmp_path)
    others = [lab.host(f"{host.name}-pc", home(duo, side)) for side, host in enumerate(duo.hosts)]
    for side, host in enumerate(duo.hosts):
        (lan,) = (each for each in home(duo, 1 - side).lans if each.version == 4)
        duo.tunnels[side].peer(duo.tunnels[1 - side].public, f"{ADDRESSES[1 - side]}/32", str(lan))
        host.sysctl("net/ipv4/ip_forward=1")
        host.ip(f"route add {lan} dev wg0")
        others[side].ip(f"route add {lan} via {host.address}")
    run_both(duo)
    until_connected(duo)
    assert others[0].ping(others[1].address)
    said = {each["endpoint"]: each.get("reason") for each in known(duo, 0, "record")["candidates"]}
    assert said[f"{duo.hosts[1].address}:51820"], said
    assert duo.other(0).endpoint == f"{outer(duo.hosts[1])}:51820"
    assert alive(duo), duo.words()


@full
@pytest.mark.parametrize("shape", ["mesh", "star"])
def test_thirty_sites(lab: Lab, tmp_path: Path, shape: str) -> None:
    """All find each other through one store; how long it took is printed."""
    sites = Sites(lab, tmp_path, 30, shape)
    began = time.monotonic()
    sites.run()
    took = sites.connected(300.0)
    print(f"{shape}: {len(sites.hosts)} sites, {sites.pairs} tunnels, all connected after {took - began:.1f} s")
    assert sites.alive()
