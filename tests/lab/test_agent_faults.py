"""The agent when things break around it: the interface, itself, stores, the clock, a second agent with its key.

Times are limits and not figures. Real wireguard-go, real NAT, real stores.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.lab.duo import ADDRESSES, Duo
from tests.lab.faults import (
    Words,
    bring_back,
    command,
    configure,
    known,
    outer,
    redis,
    run_both,
    steady,
    take_away,
    tracebacks,
    until_connected,
)
from tests.lab.lab import Lab
from tests.lab.space import wait_until

pytestmark = pytest.mark.lab
full = pytest.mark.full

SOON = 20.0  # seconds for what happens at once on a machine that has nothing else to do
AGAIN = 60.0  # seconds to a handshake after a fault
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
    wait_until(lambda: duo.state(0)["state"] == "waiting", "the state file says so", SOON)
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
    fresh = duo.state
    wait_until(lambda: fresh(0).get("key") not in (None, str(old.public)), "the state has the new key", SOON)
    from wgdisco.keys import PrivateKey

    public = PrivateKey(bytes(range(32))).public
    duo.tunnels[1].remove(old.public)
    duo.tunnels[1].peer(public, f"{ADDRESSES[0]}/32")
    old.public = public
    assert bob in duo.tunnels[0].peers()
    until_connected(duo, AGAIN)
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
        assert str(words).count("(trying again)") == 1, duo.words()
        assert alive(duo), duo.words()
