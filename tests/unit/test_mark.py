"""What this process sends carries the interface's fwmark, whichever library sends it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from wgdisco.device.family import SO_MARK
from wgdisco.device.mark import outside
from wgdisco.device.resolver import nameservers

MARK = 0x51820


def may_mark() -> bool:
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, 1)
        except PermissionError:
            return False
    return True


needs_right = pytest.mark.skipif(not may_mark(), reason="setting a mark needs CAP_NET_RAW")


def mark_of(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, SO_MARK)


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


def silent(text: str) -> None:
    pytest.fail(text)


@needs_right
@pytest.mark.parametrize("how", ["connect", "connect_ex", "sendto", "sendmsg"])
def test_every_way_to_send_is_marked(server, how: str) -> None:
    kind = socket.SOCK_STREAM if "connect" in how else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock, outside("wg0", MARK, silent):
        words = {"sendto": (b"", server), "sendmsg": ([b""], [], 0, server)}.get(how, (server,))
        getattr(sock, how)(*words)
        assert mark_of(sock) == MARK


@needs_right
async def test_asyncio_is_marked(server) -> None:
    with outside("wg0", MARK, silent):
        _, writer = await asyncio.open_connection(*server)
        assert writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, SO_MARK) == MARK
        writer.close()
        await writer.wait_closed()


@needs_right
def test_the_mark_follows_its_interface(server) -> None:
    """A socket that stays open has the mark of the day at its next datagram; the mark entered last counts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        first, second = outside("wg0", MARK, silent), outside("wg0", MARK + 1, silent)
        seen = []
        for step in (first.__enter__, second.__enter__, lambda: first.__exit__(None, None, None)):
            step()
            sock.sendto(b"", server)
            seen.append(mark_of(sock))
        second.__exit__(None, None, None)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"", server)
            assert (seen, mark_of(other)) == ([MARK, MARK + 1, MARK + 1], 0)


@needs_right
def test_a_listening_socket_is_left_alone() -> None:
    """Its answers go back the way the questions came: through the tunnel, if need be."""
    with outside("wg0", MARK, silent), socket.create_server(("127.0.0.1", 0)) as listening:
        assert mark_of(listening) == 0


@needs_right
def test_a_server_inside_the_tunnel_is_said_once(server) -> None:
    """Here the interface is lo, where every address of this host is."""
    said: list[str] = []
    with outside("lo", MARK, said.append):
        for _ in range(2):
            socket.create_connection(server).close()
    assert said == ["127.0.0.1 is reached through lo: a store there cannot help while that is down"]


WITHOUT = """
import json, socket, sys
from wgdisco.device.mark import _installed, outside
said = []
with socket.create_server(("127.0.0.1", 0)) as listening:
    if {drop}:
        import os
        socket.create_connection(listening.getsockname()).close()  # loads what nobody else may read
        os.setgid(65534); os.setuid(65534)
    with outside("wg0", {mark}, said.append):
        for _ in range(2):
            socket.create_connection(listening.getsockname()).close()
print(json.dumps([said, _installed.cache_info().currsize]))
"""


def alone(mark: int, *, drop: bool) -> object:
    """What is said in a process of its own, and how many hooks it has."""
    code = WITHOUT.format(mark=mark, drop=drop)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_no_mark_no_hook() -> None:
    assert alone(0, drop=False) == [[], 0]


@needs_right
def test_without_the_right_stores_are_used_and_it_is_said_once() -> None:
    said = (
        "stores are reached through whatever tunnel there is: sending with the fwmark 0x51820 of wg0 needs "
        "CAP_NET_RAW since Linux 5.17, CAP_NET_ADMIN before"
    )
    assert alone(MARK, drop=True) == [[said], 1]


def test_what_is_said_to_nobody_stops_nothing(server) -> None:
    def broken(_text: str) -> None:
        raise BrokenPipeError

    with outside("lo", MARK, broken):
        socket.create_connection(server).close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1 # home\nsearch example.org\n", ["192.0.2.1", "2001:db8::1"]),
        ("nameserver 127.0.0.53\n", ["192.0.2.9"]),
        ("", ["192.0.2.9"]),
        ("nameserver\nnameserver none.example\n#nameserver 192.0.2.1\n", ["192.0.2.9"]),
    ],
    ids=["plain", "a resolver here", "empty", "nonsense"],
)
def test_name_servers(tmp_path: Path, text: str, found: list[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(text)
    second.write_text("nameserver 192.0.2.9\n")
    assert [str(each) for each in nameservers((first, tmp_path / "missing", second))] == found
