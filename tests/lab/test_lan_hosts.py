"""The lan backend between two hosts on one bridge: IPv4, IPv6, a host that dies, moves, or has no network."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.lab.lab import Host, Lab
from tests.lab.node import Process
from wgdisco.backend import Slot
from wgdisco.backends.lan import Lan

pytestmark = pytest.mark.lab

SLOT = Slot(bytes(20), "a" * 32, bytes(32))
ANSWERS = """
    import asyncio
    from wgdisco.backend import Slot
    from wgdisco.backends.lan import Lan

    async def main():
        backend = Lan()
        await backend.open()
        await backend.put(Slot(bytes(20), "a" * 32, bytes(32)), b"here", 600)
        print("ready", flush=True)
        while True:
            await asyncio.sleep(0.2)
            try:
                await backend.put(Slot(bytes(20), "a" * 32, bytes(32)), b"here", 600)
            except ConnectionError:
                pass

    asyncio.run(main())
"""


def answering(host: Host) -> Process:
    """A process of that host that answers for SLOT."""
    process = host.popen(sys.executable, "-c", textwrap.dedent(ANSWERS), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().strip() in ("ready", b"ready")
    return process


async def find(seconds: float = 10) -> list[bytes]:
    """What a fresh instance finds in SLOT, asking again until there is something."""
    backend = Lan()
    try:
        await backend.open()
        end = asyncio.get_running_loop().time() + seconds
        while not (values := await backend.get(SLOT)) and asyncio.get_running_loop().time() < end:
            pass
        return values
    finally:
        await backend.close()


async def problem() -> str:
    try:
        await Lan().open()
    except ConnectionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_host_finds_its_neighbour(lab: Lab, family: str) -> None:
    """A fresh process on one host finds what a process on the other one says, by either family alone."""
    home = lab.router("home", "fw", ipv4=family == "IPv4", ipv6=family == "IPv6")
    alice, bob = lab.host("alice", home), lab.host("bob", home)
    if family == "IPv4":
        for host in (alice, bob):
            host.sysctl("net/ipv6/conf/all/disable_ipv6=1")
    answering(alice)
    assert bob.call(find) == [b"here"]


def test_a_process_finds_another_one_of_its_own_host(lab: Lab) -> None:
    home = lab.router("home")
    alice = lab.host("alice", home)
    answering(alice)
    assert alice.call(find) == [b"here"]


def test_another_network_hears_nothing(lab: Lab) -> None:
    """Multicast ends at the router."""
    home, cafe = lab.router("home"), lab.router("cafe")
    alice, bob = lab.host("alice", home), lab.host("bob", cafe)
    answering(alice)
    assert bob.call(find, 0.1) == []


def test_a_killed_process_is_not_found(lab: Lab) -> None:
    """Nobody answers for the dead, not even within the TTL of what they said."""
    home = lab.router("home")
    alice, bob = lab.host("alice", home), lab.host("bob", home)
    process = answering(alice)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert bob.call(find, 0.1) == []


def test_a_host_that_moved_is_found_in_the_new_network(lab: Lab) -> None:
    home, cafe = lab.router("home"), lab.router("cafe")
    alice, bob = lab.host("alice", home), lab.host("bob", cafe)
    answering(alice)
    alice.move(cafe)
    assert bob.call(find) == [b"here"]


def test_without_network_the_error_says_what_to_do(lab: Lab) -> None:
    """Only loopback is left: nothing can multicast."""
    home = lab.router("home")
    alice = lab.host("alice", home)
    alice.ip("link set dev eth0 down")
    assert alice.call(problem) == (
        "cannot multicast to 224.0.0.251 from this machine (no interface that is up and can multicast); "
        "connect to a network, name an interface with -o interfaces=NAME, or use another backend"
    )
