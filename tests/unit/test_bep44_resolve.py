"""HOST:PORT to endpoints: forms, names, and a resolver that hangs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time

import pytest

from wgdisco.bep44.resolve import resolve, split
from wgdisco.endpoint import Endpoint
from wgdisco.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.org:6881", "example.org", 6881),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
    ],
)
def test_host_and_port_are_taken_apart(text, host, port):
    assert split(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", ":", "host", "host:", ":1", "host:0", "host:65536", "host:-1", "host:\u0661", "a:b:1", "::1:1"]
)
def test_another_form_is_quoted(text):
    with pytest.raises(UsageError, match=f"node {text!r}: "):
        split(text)


async def test_an_address_is_not_looked_up(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert await resolve("[::1]:5") == [Endpoint.parse("[::1]:5")]


async def test_a_name_is_looked_up():
    assert Endpoint.parse("127.0.0.1:5") in await resolve("localhost:5")


async def test_every_address_of_both_families_is_given(monkeypatch):
    answers = [(0, 0, 0, "", ("192.0.2.1", 5)), (0, 0, 0, "", ("2001:db8::1", 5, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    assert await resolve("example.org:5") == [Endpoint.parse("192.0.2.1:5"), Endpoint.parse("[2001:db8::1]:5")]


@pytest.mark.parametrize("name", ["a" * 64, "a..b"])
async def test_a_name_that_cannot_be_one_is_an_os_error(name):
    with pytest.raises(OSError):
        await resolve(f"{name}:5")


async def test_a_name_without_an_address_is_an_os_error(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match="not known"):
        await resolve("example.org:5")


def test_a_resolver_that_hangs_holds_up_neither_the_loop_nor_the_end_of_the_process():
    script = """
import asyncio, socket, time
from wgdisco.bep44.resolve import resolve
socket.getaddrinfo = lambda *_, **__: time.sleep(60)
async def main():
    try:
        async with asyncio.timeout(0.1):
            await resolve("example.org:5")
    except TimeoutError:
        print("cut off")
asyncio.run(main())
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("cut off\n", "")
    assert time.monotonic() - start < 30


async def test_an_answer_after_the_asker_has_gone_is_dropped(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(0.1) or [])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await resolve("example.org:5")
    await asyncio.sleep(0.2)
