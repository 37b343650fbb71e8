"""Hosted DNS: the option `provider`, against a server with Cloudflare's documented v4 API."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.backends.common import opening, slot
from wgdisco.backend import Secret, to_text
from wgdisco.backends.dns import DNS
from wgdisco.errors import ConfigError, MissingExtra, RetryLater, StoreError

cloudflare = pytest.importorskip("lexicon._private.providers.cloudflare", reason="needs dns-lexicon")

ROOT = Path(__file__).parents[2]
TOKEN, ZONE = "cloudflare0token", "wg.test"
BLOB = b"\x01" + bytes(range(200)) * 3


class Handler(BaseHTTPRequestHandler):
    """/zones and /zones/ID/dns_records."""

    server: Cloud

    def do_GET(self) -> None:
        self.answer()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server looks for these names

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        cloud, url = self.server, urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        cloud.asked.append(self.command)
        if cloud.frozen:
            cloud.thawed.wait(30)
            return
        if cloud.limited:
            self.say(429, {"success": False, "errors": [{"code": 971, "message": "throttled"}]})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            sent = self.headers["Authorization"]
            self.say(403, {"success": False, "errors": [{"code": 9109, "message": f"Invalid token: {sent}"}]})
        elif url.path == "/zones":
            self.page([{"id": "z1", "name": ZONE}])
        elif self.command == "GET":
            name = parse_qs(url.query)["name"][0]
            self.page([each for each in cloud.records.values() if each["name"] == name])
        else:
            self.change(url.path.rpartition("/")[2], body)

    def change(self, last: str, body: dict[str, Any]) -> None:
        records = self.server.records
        if self.command == "DELETE":
            del records[last]
            return self.say(200, {"success": True, "result": {"id": last}})
        if body["ttl"] != 1 and body["ttl"] < 60:
            return self.say(400, {"success": False, "errors": [{"code": 9021, "message": "Invalid TTL"}]})
        key = last if self.command == "PUT" else f"r{len(self.server.asked)}"
        records[key] = {key: body[key] for key in ("type", "name", "content", "ttl")} | {"id": key}
        return self.say(200, {"success": True, "result": records[key]})

    def page(self, result: list[dict[str, Any]]) -> None:
        self.say(200, {"success": True, "result": result, "result_info": {"page": 1, "total_pages": 1}})

    def say(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "17")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class Cloud(ThreadingHTTPServer):
    """The API on loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.records: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.frozen = self.limited = False
        self.thawed = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def contents(self) -> list[tuple[str, str]]:
        return [(each["name"], each["content"]) for each in self.records.values()]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    original = cloudflare.Provider.__init__

    def here(provider: Any, config: Any) -> None:
        original(provider, config)
        provider.api_endpoint = running.url

    with Cloud() as running:
        monkeypatch.setattr(cloudflare.Provider, "__init__", here)
        monkeypatch.setattr(cloudflare, "requests", cloudflare.requests)  # the limited one goes away again
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield running
        running.thawed.set()
        running.shutdown()
        thread.join()


def opened(token: str = TOKEN, **options: Any) -> AbstractAsyncContextManager[DNS]:
    return opening(
        DNS(**{"zone": ZONE, "provider": "cloudflare", "provider_auth": {"auth_token": Secret(token)}, **options})
    )


def strings(blob: bytes) -> str:
    text = to_text(blob)
    return " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))


async def test_a_put_creates_a_record_in_text_form_below_the_subdomain(cloud: Cloud) -> None:
    async with opened(subdomain="sub") as backend:
        await backend.put(slot("a"), BLOB, 600)
    assert cloud.contents() == [(f"{slot('a').text}.sub.{ZONE}", strings(BLOB))]


async def test_a_put_replaces_every_record_of_the_name_and_no_other(cloud: Cloud) -> None:
    for key in "pq":
        name = f"{slot('a').text}.{ZONE}"
        cloud.records[key] = {"id": key, "type": "TXT", "name": name, "content": f'"{key}"', "ttl": 60}
    async with opened() as backend:
        await backend.put(slot("b"), b"\x01other", 600)
        await backend.put(slot("a"), BLOB, 600)
    names = {f"{slot('a').text}.{ZONE}": strings(BLOB), f"{slot('b').text}.{ZONE}": strings(b"\x01other")}
    assert sorted(cloud.contents()) == sorted(names.items())


async def test_what_is_there_already_is_not_written_again(cloud: Cloud) -> None:
    async with opened() as backend:
        await backend.put(slot("a"), BLOB, 600)
        cloud.asked.clear()
        await backend.put(slot("a"), BLOB, 600)
    assert cloud.asked == ["GET"]


async def test_a_remove_deletes_the_record_and_may_be_repeated(cloud: Cloud) -> None:
    async with opened() as backend:
        await backend.put(slot("a"), BLOB, 600)
        await backend.remove(slot("a"))
        await backend.remove(slot("a"))
    assert cloud.contents() == []


async def test_a_wrong_token_is_an_error_that_does_not_quote_it(cloud: Cloud) -> None:
    async with opened("hunter2") as backend:
        with pytest.raises(StoreError, match=r"answered 403: .*Invalid token.*correct provider_auth") as caught:
            await backend.put(slot("a"), BLOB, 600)
    assert "hunter2" not in str(caught.value)


async def test_another_zone_is_an_error(cloud: Cloud) -> None:
    async with opened(zone="example.org") as backend:
        with pytest.raises(StoreError, match="No domain found; correct zone"):
            await backend.put(slot("a"), BLOB, 600)


async def test_a_rate_limit_says_when_to_come_back(cloud: Cloud) -> None:
    cloud.limited = True
    async with opened() as backend:
        with pytest.raises(RetryLater) as caught:
            await backend.put(slot("a"), BLOB, 600)
    assert caught.value.seconds == 17


async def test_a_frozen_api_is_given_up(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wgdisco.backends._dns_hosted.ANSWER", 0.2)
    cloud.frozen = True
    async with opened() as backend:
        with pytest.raises(StoreError, match=r"no answer from the API of cloudflare \(ReadTimeout\)"):
            await backend.put(slot("a"), BLOB, 600)


PROGRAM = """
import asyncio, sys
from lexicon._private.providers import cloudflare
from wgdisco.backend import Secret
from wgdisco.backends import _dns_hosted
from wgdisco.backends.dns import DNS
from tests.backends.common import opening, slot
original = cloudflare.Provider.__init__
def here(provider, config):
    original(provider, config)
    provider.api_endpoint = sys.argv[1]
cloudflare.Provider.__init__ = here
_dns_hosted.ANSWER = 600
async def main():
    backend = DNS(zone="wg.test", provider="cloudflare", provider_auth={"auth_token": Secret("t")})
    await backend.open()
    try:
        async with asyncio.timeout(0.5):
            await backend.put(slot("a"), b"blob", 600)
    except TimeoutError:
        print("cut")
    await backend.close()
asyncio.run(main())
"""


async def test_a_frozen_api_does_not_hold_the_process(cloud: Cloud) -> None:
    """Its request would last ten minutes."""
    cloud.frozen = True
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", PROGRAM, cloud.url], capture_output=True, text=True, timeout=25, cwd=ROOT
    )
    assert (ended.stdout, ended.returncode) == ("cut\n", 0), ended.stderr
    assert cloud.asked == ["GET"]


async def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lexicon._private", None)
    with pytest.raises(MissingExtra, match=r"wgdisco\[lexicon\]"):
        async with opened():
            pass


@pytest.mark.parametrize("provider", ["clodflare", "godaddy"])
async def test_an_unknown_provider_is_refused(provider: str) -> None:
    with pytest.raises(ConfigError, match=f"provider '{provider}': expected .*cloudflare"):
        async with opened(provider=provider):
            pass


async def test_no_public_suffix_list_is_loaded(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    import tldextract

    def never(*_: object, **__: object) -> None:
        raise AssertionError("asked for the list")

    monkeypatch.setattr(tldextract.TLDExtract, "_get_tld_extractor", never)
    async with opened() as backend:
        await backend.put(slot("a"), BLOB, 600)
    assert len(cloud.records) == 1
