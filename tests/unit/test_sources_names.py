"""Names of STUN servers: how they are written, and looking them up without holding anything."""

import socket
import subprocess
import sys
import threading

import pytest

from wgdisco.endpoint import Endpoint
from wgdisco.errors import UsageError
from wgdisco.sources.names import split
from wgdisco.sources.pins import Pins
from wgdisco.sources.stun import DEFAULT_STUN_SERVERS


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("stun.example.org:3479", ("stun.example.org", 3479)),
        ("stun.example.org", ("stun.example.org", 3478)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("192.0.2.1", ("192.0.2.1", 3478)),
        ("[2001:db8::1]:5", ("2001:db8::1", 5)),
        ("[2001:db8::1]", ("2001:db8::1", 3478)),
    ],
)
def test_a_server_is_a_host_and_perhaps_a_port(text, parts):
    assert split(text) == parts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected HOST:PORT, as stun.example.org:3478"),
        (":3478", "expected HOST:PORT"),
        ("stun.example.org:", None),
        ("stun.example.org:0", "expected HOST:PORT"),
        ("stun.example.org:65536", "expected HOST:PORT"),
        ("stun.example.org:\u0661", "expected HOST:PORT"),
        ("2001:db8::1", "an IPv6 address is written in brackets"),
        ("stun:stun.example.org:3478", "written in brackets"),
    ],
)
def test_anything_else_is_quoted_and_refused(text, why):
    if why is None:
        assert split(text)[1] == 3478
        return
    with pytest.raises(UsageError, match=why) as caught:
        split(text)
    assert repr(text) in str(caught.value)


def test_the_default_servers_are_well_formed_and_of_four_operators():
    operators = {split(server)[0].split(".", 1)[1] for server in DEFAULT_STUN_SERVERS}
    assert len(operators) == len(DEFAULT_STUN_SERVERS) == 4


async def test_addresses_need_no_look_up():
    assert await Pins().find("192.0.2.1:9", 4) == Endpoint.parse("192.0.2.1:9")
    assert await Pins().find("[2001:db8::1]:9", 6) == Endpoint.parse("[2001:db8::1]:9")
    with pytest.raises(OSError, match=r"192\.0\.2\.1:9 is no IPv6 address"):
        await Pins().find("192.0.2.1:9", 6)


async def test_a_name_is_looked_up_for_the_family_wanted():
    assert await Pins().find("localhost:9", 4) == Endpoint.parse("127.0.0.1:9")


@pytest.mark.parametrize("name", ["no-such-name.invalid", "a" * 64 + ".example", "\udcff.example"])
async def test_a_name_without_address_is_an_error_that_quotes_it(name):
    with pytest.raises(OSError, match="has no address") as caught:
        await Pins().find(f"{name}:9", 4)
    assert repr(name) in str(caught.value)


async def test_a_slow_resolver_does_not_hold_the_loop(monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: go.wait(30) and [(0, 0, 0, "", ("192.0.2.5", 0))])
    import asyncio

    asking = asyncio.ensure_future(Pins().find("slow.example:9", 4))
    await asyncio.sleep(0.01)
    assert not asking.done()
    go.set()
    assert await asking == Endpoint.parse("192.0.2.5:9")


def test_a_resolver_that_hangs_does_not_hold_the_end_of_the_process():
    code = (
        "import asyncio, socket, time\n"
        "from wgdisco.sources.pins import Pins\n"
        "socket.getaddrinfo = lambda *_: time.sleep(600)\n"
        "async def main():\n"
        "    try:\n"
        "        async with asyncio.timeout(0.05):\n"
        "            await Pins().find('silent.example:9', 4)\n"
        "    except TimeoutError:\n"
        "        print('gave up')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("gave up\n", "")
