"""The kernel tells of links, addresses and routes; run in a network namespace of its own, where nothing else happens."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import cannot_run, require_binary
from wgdisco.device.events import AT_ONCE, Monitor
from wgdisco.device.genetlink import encode_message

# for each line of commands: how often a monitor told of them, and how often of another one after it had ended
PROGRAM = """
import asyncio, json, subprocess, sys
from wgdisco.device.events import Monitor

def run(commands):
    subprocess.run(["ip", "-batch", "-"], input="\\n".join(commands).encode(), check=True)

async def turn():
    for _ in range(3):
        await asyncio.sleep(0)

async def count(commands):
    told = []
    with Monitor(lambda: told.append(1)):
        run(commands)
        await turn()
    inside = len(told)
    run(["link set lo alias after"])
    await turn()
    return inside, len(told) - inside

print("ready", flush=True)
run(["link set lo up", "address add 192.0.2.1/32 dev lo", "address add 2001:db8::1/128 dev lo nodad"])
for line in sys.stdin:
    print(json.dumps(asyncio.run(count(json.loads(line)))), flush=True)
"""


@pytest.fixture(scope="module")
def kernel():
    """Runs commands of ip(8) while a monitor listens; how often that was told, and how often afterwards."""
    require_binary("ip")
    command = [require_binary("unshare"), "--map-root-user", "--net", sys.executable, "-c", PROGRAM]
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=root, text=True
    ) as process:
        if process.stdout.readline() != "ready\n":
            cannot_run("namespaces may not be made here (unshare)")

        def told(*commands: str) -> tuple[int, int]:
            process.stdin.write(json.dumps(commands) + "\n")
            process.stdin.flush()
            return tuple(json.loads(process.stdout.readline()))

        yield told
        process.stdin.close()


@pytest.mark.parametrize(
    "command",
    [
        "link set lo alias other",
        "address change 192.0.2.1/32 dev lo valid_lft 3000 preferred_lft 2000",
        "address change 2001:db8::1/128 dev lo valid_lft 3000 preferred_lft 2000",
        "route add 198.51.100.0/24 dev lo",
        "route add 2001:db8:1::/64 dev lo",
    ],
    ids=["link", "IPv4 address", "IPv6 address", "IPv4 route", "IPv6 route"],
)
def test_a_change_of_each_kind_is_told(kernel, command) -> None:
    assert kernel(command)[0] == 1


def test_what_goes_is_told_too(kernel) -> None:
    kernel("route add 192.0.2.128/25 dev lo")
    assert kernel("route del 192.0.2.128/25 dev lo")[0] == 1


def test_many_changes_at_once_are_told_once(kernel) -> None:
    assert kernel(*(f"route replace 203.0.113.{number}/32 dev lo metric 9" for number in range(AT_ONCE)))[0] == 1


def test_more_than_are_read_at_once_are_not_forgotten(kernel) -> None:
    """The loop gets a turn in between."""
    kernel(*(f"route replace 203.0.113.{number}/32 dev lo" for number in range(AT_ONCE + 1)))
    assert kernel(*(f"route del 203.0.113.{number}/32 dev lo" for number in range(AT_ONCE + 1)))[0] == 2


def test_after_the_end_nothing_is_told(kernel) -> None:
    assert kernel("link set lo alias before") == (1, 0)


# ---- what this kernel does not say on demand


class Says:
    """A socket that gives these, one after the other, and then nothing for now."""

    def __init__(self, *answers: bytes | OSError) -> None:
        self.answers = list(answers)

    def recv(self, _size: int) -> bytes:
        answer = self.answers.pop(0) if self.answers else BlockingIOError()
        if isinstance(answer, Exception):
            raise answer
        return answer


NEIGHBOUR, ADDRESS = (encode_message(kind, 0, 0, bytes(8)) for kind in (28, 20))


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([], 0),
        ([OSError(errno.ENOBUFS, "the queue was full")], 1),
        ([OSError(errno.EIO, "something else")], 0),
        ([NEIGHBOUR], 0),
        ([NEIGHBOUR + ADDRESS], 1),
        ([OSError(errno.ENOBUFS, "the queue was full"), ADDRESS], 1),
    ],
    ids=["nothing", "more than fitted", "another error", "of something else", "among others", "and more"],
)
def test_news_and_lost_news_are_told_and_nothing_else_is(answers, told) -> None:
    heard: list[int] = []
    monitor = Monitor(lambda: heard.append(1))
    monitor._socket = Says(*answers)
    monitor._read()
    assert len(heard) == told


async def test_a_monitor_that_cannot_listen_leaves_no_socket_behind(monkeypatch) -> None:
    opened = []

    class Refused(socket.socket):
        def bind(self, _address) -> None:
            opened.append(self)
            raise PermissionError(errno.EPERM, "not here")

    monkeypatch.setattr("wgdisco.device.events.socket.socket", Refused)
    with pytest.raises(PermissionError), Monitor(opened.clear):
        pass
    assert [each.fileno() for each in opened] == [-1]
