"""Redis, against a real server: contract, expiry, push, rights, TLS, outages."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from redis.exceptions import NoPermissionError, RedisError

from tests.backends.common import LATER, opening, slot
from tests.backends.etcdserver import certificate
from tests.support import Server, require_binary
from wgdisco.backend import Backend, Secret
from wgdisco.backends.redis import Redis
from wgdisco.errors import ConfigError
from wgdisco.testing import BackendContract


class RedisServer(Server):
    """A server that keeps nothing on disk; further arguments as on its command line."""

    program = "redis-server"
    arguments: ClassVar[tuple[str, ...]] = ("--port", "{port}", "--bind", "127.0.0.1", "--dir", "{folder}")

    def __init__(self, folder: Path, *more: str) -> None:
        super().__init__(folder)
        self.arguments = (*type(self).arguments, "--save", "", "--appendonly", "no", *more)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self, *words: str) -> str:
        """Run a command by the server's own client."""
        client = require_binary("redis-cli")
        return subprocess.run(
            [client, "-p", str(self.port), *words], check=True, capture_output=True, text=True
        ).stdout.strip()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server; tests keep apart by prefix."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


def opened(where: RedisServer | str, **options: Any) -> AbstractAsyncContextManager[Redis]:
    url = where if isinstance(where, str) else where.url
    return opening(Redis(url=url, **{"prefix": f"{uuid4().hex}:", **options}))


class TestContract(BackendContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        self.control, self.prefix = server, f"{uuid4().hex}:"

    def backend(self) -> Backend:
        return Redis(url=self.control.url, prefix=self.prefix)


async def test_the_server_forgets_a_record_after_its_lifetime(server: RedisServer) -> None:
    async with opened(server) as backend:
        await backend.put(slot("a"), b"x", LATER)
        left = int(server.command("PTTL", f"{backend.prefix}{slot('a').text}"))
        assert 1000 * LATER - 60_000 < left <= 1000 * LATER


async def test_a_watch_shows_that_a_record_expired(server: RedisServer) -> None:
    async with opened(server) as backend:
        backend.poll = 0.3
        await backend.put(slot("a"), b"x", 1)
        async with aclosing(backend.watch(slot("a"))) as values, asyncio.timeout(10):
            assert await anext(values) == [b"x"]
            assert await anext(values) == []


async def test_changes_are_pushed_and_not_polled(server: RedisServer) -> None:
    async with opened(server) as backend:
        backend.poll = 3600
        async with aclosing(backend.watch(slot("a"))) as values, asyncio.timeout(10):
            assert await anext(values) == []
            await backend.put(slot("a"), b"x", LATER)
            assert await anext(values) == [b"x"]
            await backend.remove(slot("a"))
            assert await anext(values) == []


async def test_a_foreign_type_in_a_slot_is_no_value_and_is_replaced(server: RedisServer) -> None:
    async with opened(server) as backend:
        server.command("LPUSH", f"{backend.prefix}{slot('a').text}", "junk")
        assert await backend.get(slot("a")) == []
        await backend.put(slot("a"), b"ours", LATER)
        assert await backend.get(slot("a")) == [b"ours"]


async def test_what_others_say_on_the_channel_is_no_value(server: RedisServer) -> None:
    """A message only makes us look: whoever may publish cannot show us anything."""
    async with opened(server) as backend:
        await backend.put(slot("a"), b"ours", LATER)
        async with aclosing(backend.watch(slot("a"))) as values, asyncio.timeout(10):
            assert await anext(values) == [b"ours"]
            server.command("PUBLISH", f"{backend.prefix}{slot('a').text}", "forged")
            await backend.put(slot("a"), b"newer", LATER)
            assert await anext(values) == [b"newer"]


async def test_an_outage_shows_at_once() -> None:
    """One call is one attempt: the library's own retries would hide an outage for seconds."""
    attempts: list[object] = []

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(writer)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with opened(f"redis://127.0.0.1:{port}/0") as backend:
            with pytest.raises(RedisError):
                await backend.get(slot("a"))
    assert len(attempts) == 1


async def test_a_follower_notices_a_frozen_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wgdisco.backends.redis.TIMEOUT", 0.5)
    with RedisServer(tmp_path) as own:
        async with opened(own) as backend:
            backend.poll = 0.3
            async with aclosing(backend.watch(slot("a"))) as values, asyncio.timeout(10):
                assert await anext(values) == []
                own.freeze()
                try:
                    with pytest.raises(RedisError, match=r"[Tt]imeout"):
                        await anext(values)
                finally:
                    own.thaw()


# rights


RIGHTS = {
    "writer": "+set +del +publish +mget +subscribe +unsubscribe +ping",
    "reader": "+mget +subscribe +unsubscribe +ping",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server with the users of docs/backends/redis.md; `default` may do all, to look behind the scenes."""
    with RedisServer(tmp_path_factory.mktemp("guarded")) as running:
        for user, rights in RIGHTS.items():
            pattern = "~wgdisco:*" if user == "writer" else "%R~wgdisco:*"
            running.command("ACL", "SETUSER", user, "on", f">{user}-pass", pattern, "&wgdisco:*", *rights.split())
        yield running


def login(user: str) -> dict[str, Any]:
    return {"user": user, "password": Secret(f"{user}-pass"), "prefix": "wgdisco:"}


async def test_the_rights_in_the_manual_are_enough(guarded: RedisServer) -> None:
    async with opened(guarded, **login("writer")) as writer, opened(guarded, **login("reader")) as reader:
        async with aclosing(reader.watch(slot("a"))) as values, asyncio.timeout(10):
            await anext(values)
            await writer.put(slot("a"), b"x", LATER)
            assert await anext(values) == [b"x"]
            await writer.remove(slot("a"))
            assert await anext(values) == []
        async with aclosing(writer.watch(slot("a"))) as values, asyncio.timeout(10):
            assert await anext(values) == []


async def test_a_reader_cannot_write(guarded: RedisServer) -> None:
    async with opened(guarded, **login("reader")) as reader:
        with pytest.raises(NoPermissionError):
            await reader.put(slot("b"), b"x", LATER)
        assert await reader.get(slot("b")) == []


async def test_a_user_is_kept_to_its_prefix(guarded: RedisServer) -> None:
    async with opened(guarded, **(login("writer") | {"prefix": "elsewhere:"})) as writer:
        with pytest.raises(NoPermissionError):
            await writer.put(slot("a"), b"x", LATER)
        with pytest.raises(NoPermissionError):
            async with aclosing(writer.watch(slot("a"))) as values, asyncio.timeout(10):
                await anext(values)


async def test_a_wrong_password_is_an_error_that_does_not_quote_it(guarded: RedisServer) -> None:
    async with opened(guarded, user="writer", password=Secret("hunter2")) as backend:
        with pytest.raises(RedisError, match="invalid username-password pair") as caught:
            await backend.get(slot("a"))
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "redis://:hunter2@host/0"}, "url holds a password"),
        ({"url": "redis://host/0?password=hunter2"}, "url holds a password"),
        ({"url": "http://host"}, "url 'http://host': expected redis://HOST:PORT/DB, rediss://"),
        ({"prefix": ""}, "prefix '' would be the whole of the server"),
        ({"ca": "ca.pem"}, "ca, cert and key are for TLS"),
    ],
)
async def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    backend = Redis(**options)
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")) as caught:
        await backend.open()
    await backend.close()
    assert "hunter2" not in str(caught.value)


# TLS


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that speaks TLS alone and asks for a client certificate."""
    folder = tmp_path_factory.mktemp("tls")
    certificate(folder, "ca", subject="/CN=ca")
    for name in ("server", "client"):
        certificate(folder, name, issuer="ca")
    more = ["--port", "0", "--tls-port", "{port}", "--tls-ca-cert-file", f"{folder}/ca.pem"]
    more += ["--tls-cert-file", f"{folder}/server.pem", "--tls-key-file", f"{folder}/server.key"]
    with RedisServer(folder, *more) as running:
        yield running


def tls(server: RedisServer, **more: str) -> dict[str, str]:
    folder = server.folder
    files = {"ca": f"{folder}/ca.pem", "cert": f"{folder}/client.pem", "key": f"{folder}/client.key"}
    return files | more


async def test_tls_with_a_client_certificate(sealed: RedisServer) -> None:
    async with opened(f"rediss://127.0.0.1:{sealed.port}/0", **tls(sealed)) as backend:
        await backend.put(slot("a"), b"x", LATER)
        assert await backend.get(slot("a")) == [b"x"]


async def test_a_server_of_another_authority_is_refused(sealed: RedisServer, tmp_path: Path) -> None:
    other, _ = certificate(tmp_path, "other", subject="/CN=other")
    async with opened(f"rediss://127.0.0.1:{sealed.port}/0", **tls(sealed, ca=other)) as backend:
        with pytest.raises(RedisError, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
            await backend.get(slot("a"))


async def test_a_certificate_for_another_name_is_refused(sealed: RedisServer) -> None:
    """The certificate is for 127.0.0.1, and the same server is reached by another name."""
    async with opened(f"rediss://localhost:{sealed.port}/0", **tls(sealed)) as backend:
        with pytest.raises(RedisError, match=r"[Hh]ostname mismatch|doesn't match"):
            await backend.get(slot("a"))


async def test_a_unix_socket(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as short, RedisServer(tmp_path, "--unixsocket", f"{short}/redis"):
        async with opened(f"unix://{short}/redis") as backend:
            await backend.put(slot("a"), b"x", LATER)
            assert await backend.get(slot("a")) == [b"x"]
