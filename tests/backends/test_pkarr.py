"""pkarr, against a relay that verifies, and the npm implementation: contract, lies, limits, several relays."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.backends.common import LATER, opening
from tests.backends.httpservers import Said, speaking
from tests.backends.pkarrrelay import Relay
from tests.support import free_ports, require_binary
from wgdisco.backend import Backend
from wgdisco.backends import pkarr as module
from wgdisco.backends.pkarr import Pkarr, pack, unpack, z_base_32
from wgdisco.errors import ConfigError, RetryLater, StoreError
from wgdisco.testing import Author, BackendContract

PACKAGE = "pkarr@1.3.0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay for all; tests keep apart by key."""
    with Relay(tmp_path_factory.mktemp("relay")) as running:
        yield running


def opened(*relays: str) -> AbstractAsyncContextManager[Pkarr]:
    return opening(Pkarr(relays=list(relays)))


def nobody() -> str:
    return f"http://127.0.0.1:{free_ports()[0]}"


class TestContract(BackendContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: Relay) -> None:
        self.control = server

    def backend(self) -> Backend:
        return Pkarr(relays=[self.control.url])


# what the packet is


def test_z_base_32_is_the_known_one() -> None:
    """Two values of the human-oriented base-32 encoding's own description, and a key's length."""
    assert (z_base_32(b"\xf0\xbf\xc7"), z_base_32(b"\xd4\x7a\x04")) == ("6n9hq", "4t7ye")
    assert len(z_base_32(bytes(32))) == 52


def test_the_largest_blob_fits_a_packet() -> None:
    slot = Author().slot()
    body = pack(slot, bytes(681))
    assert len(body) <= 1072
    assert unpack(slot, body) == [bytes(681)]
    with pytest.raises(StoreError, match="a blob of 950 bytes makes a packet of"):
        pack(slot, bytes(950))


def test_the_timestamp_is_a_thousand_times_the_number() -> None:
    slot = Author().slot()
    assert int.from_bytes(pack(slot, b"x")[64:72]) == 1000 * slot.seq


@pytest.mark.parametrize("place", [0, 63, 64, 71, 72, 100, -1])
def test_a_packet_changed_anywhere_is_no_value(place: int) -> None:
    slot = Author().slot()
    body = bytearray(pack(slot, b"x" * 60))
    body[place] ^= 1
    assert unpack(slot, bytes(body)) == []


def test_a_packet_of_another_key_is_no_value() -> None:
    author = Author()
    assert unpack(author.reading(1), pack(author.slot(0), b"x")) == []


@pytest.mark.parametrize("packet", [b"", b"x", bytes(12), b"\xff" * 100, bytes(1001)])
def test_a_signed_packet_that_is_no_dns_of_ours_is_no_value(packet: bytes) -> None:
    slot = Author().slot()
    assert unpack(slot, slot.sign(5, packet) + (5).to_bytes(8) + packet) == []


# relays


async def test_every_relay_is_written_to_and_one_that_is_up_is_enough(server: Relay, tmp_path: Path) -> None:
    author = Author()
    with Relay(tmp_path) as second:
        async with opened(server.url, nobody(), second.url) as backend:
            await backend.put(author.slot(), b"x", LATER)
        for url in (server.url, second.url):
            async with opened(url, nobody()) as reader:
                assert await reader.get(author.reading()) == [b"x"]


async def test_values_of_all_relays_are_given(server: Relay, tmp_path: Path) -> None:
    """An old record that one relay still has does not hide the new one of another."""
    author = Author()
    with Relay(tmp_path) as second:
        for url, blob in ((server.url, b"old"), (second.url, b"new")):
            async with opened(url) as backend:
                await backend.put(author.slot(), blob, LATER)
        async with opened(server.url, second.url) as reader:
            assert set(await reader.get(author.reading())) == {b"old", b"new"}


async def test_a_frozen_relay_does_not_hold_up_a_read(server: Relay, tmp_path: Path) -> None:
    author = Author()
    with Relay(tmp_path) as second:
        async with opened(server.url, second.url) as backend:
            await backend.put(author.slot(), b"x", LATER)
            second.freeze()
            assert await backend.get(author.reading()) == [b"x"]


async def test_a_relay_that_lies_is_ignored(server: Relay) -> None:
    author = Author()
    with speaking(lambda _: Said(200, body=pack(Author().slot(), b"lie"))) as (liar, heard):
        async with opened(server.url, liar) as backend:
            await backend.put(author.slot(), b"x", LATER)
            assert await backend.get(author.reading()) == [b"x"]
    assert [request.method for request in heard] == ["PUT", "GET"]


async def test_an_endless_answer_is_no_value() -> None:
    sent: list[int] = []
    with speaking(lambda _: Said(endless=sent)) as (url, _):
        async with opened(url) as backend:
            assert await backend.get(Author().reading()) == []
    assert sum(sent) < 1 << 24


async def test_an_older_record_is_refused_with_the_reason(server: Relay) -> None:
    author = Author()
    older, newer = author.slot(), author.slot()
    async with opened(server.url) as backend:
        await backend.put(newer, b"new", LATER)
        with pytest.raises(StoreError, match="HTTP 409: a newer record is in the slot"):
            await backend.put(older, b"old", LATER)
        assert await backend.get(author.reading()) == [b"new"]


async def test_the_relay_of_the_tests_refuses_a_wrong_signature(server: Relay) -> None:
    slot = Author().slot()
    async with opened(server.url) as backend:
        with pytest.raises(StoreError, match="HTTP 400: the relay does not take the packet"):
            await backend.put(replace(slot, sign=lambda seq, value: bytes(64)), b"x", LATER)


@pytest.mark.parametrize(("status", "header", "seconds"), [(429, "77", 77), (429, "", 60), (503, "77", 77)])
async def test_a_relay_that_asks_for_time_gets_it(status: int, header: str, seconds: float) -> None:
    with speaking(lambda _: Said(status, {"Retry-After": header} if header else {})) as (url, _):
        async with opened(url) as backend:
            with pytest.raises(RetryLater, match=rf"HTTP {status}: the relay asks to come back in {seconds} s") as told:
                await backend.put(Author().slot(), b"x", LATER)
    assert told.value.seconds == seconds


async def test_what_is_no_relay_is_named() -> None:
    with speaking(lambda _: Said(500, body=b"the reason")) as (url, _):
        async with opened(url) as backend:
            with pytest.raises(StoreError, match=r"HTTP 500: b'the reason'; is it a pkarr relay\?"):
                await backend.get(Author().reading())


async def test_when_no_relay_is_up_that_is_an_error() -> None:
    async with opened(nobody(), nobody()) as backend:
        with pytest.raises(ConnectionError, match=r"GET http://127\.0\.0\.1:.*; is it up\?"):
            await backend.get(Author().reading())


@pytest.mark.parametrize(
    ("relays", "expected"),
    [
        ([], "relays is empty; expected URLs of pkarr relays, as 'https://"),
        (["relay.example"], "relay 'relay.example': expected a URL like"),
        (["ftp://relay.example"], "relay 'ftp://relay.example': expected a URL like"),
        (["https://a:hunter2@relay.example"], "a relay on 'relay.example' has a user in its URL"),
    ],
)
async def test_options_that_cannot_be_used_are_named(relays: list[str], expected: str) -> None:
    backend = Pkarr(relays=relays)
    with pytest.raises(ConfigError, match=expected) as caught:
        await backend.open()
    assert "hunter2" not in str(caught.value)
    await backend.close()


def test_the_public_relays_are_the_default() -> None:
    assert Pkarr().relays == list(module.RELAYS)
    assert all(relay.startswith("https://") for relay in module.RELAYS)


# the npm implementation

PROGRAM = """
import { Pkarr, SignedPacket, z32, generateKeyPair } from 'pkarr'
const [relay, key] = process.argv.slice(2)
const packet = await Pkarr.relayGet(relay, z32.decode(key))
const texts = packet.resourceRecords('_wg').map(rr => Buffer.concat(rr.data).toString('hex'))
const pair = generateKeyPair()
const answers = [{ name: '_wg', type: 'TXT', class: 'IN', ttl: 30, data: [Buffer.from('from'), Buffer.from(' node')] }]
const made = SignedPacket.fromPacket(pair, { id: 0, type: 'response', flags: 0, answers })
const put = await Pkarr.relayPut(relay, made)
console.log(JSON.stringify({ texts, timestamp: String(packet.timestamp()), key: pair.publicKey.toString('hex'), put: put.status }))
process.exit(0)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program beside the npm package, from npm's own cache: tests ask no network."""
    try:
        npm, folder = require_binary("npm"), tmp_path_factory.mktemp("npm")
        require_binary("node")
    except pytest.fail.Exception as error:
        pytest.skip(str(error))
    (folder / "package.json").write_text("{}")
    command = [npm, "install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip(f"{PACKAGE} is not in npm's cache; `npm install {PACKAGE}` in an empty folder puts it there")
    (folder / "check.mjs").write_text(PROGRAM)
    return folder / "check.mjs"


async def test_npm_pkarr_reads_our_packet_and_we_read_its(server: Relay, program: Path) -> None:
    """Its check of the signature covers our timestamps too, which are over 2^53."""
    author = Author()
    slot, blob = author.slot(), bytes(index * 7 % 256 for index in range(681))
    async with opened(server.url) as backend:
        await backend.put(slot, blob, LATER)
        told = told_by(program, server.url, z_base_32(slot.public))
        assert told["texts"] == [blob.hex()]
        assert told["put"] == 204
        assert await backend.get(replace(slot, public=bytes.fromhex(told["key"]))) == [b"from node"]


def told_by(program: Path, *arguments: str) -> dict[str, Any]:
    """What the program prints."""
    command = [require_binary("node"), str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
