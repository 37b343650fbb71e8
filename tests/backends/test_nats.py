"""NATS JetStream, against a real server: contract, push, rights, TLS, outages."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from tests.backends.common import LATER, opening, slot
from tests.backends.etcdserver import certificate
from tests.support import Server, free_ports
from wgdisco.backend import Backend, Secret
from wgdisco.backends import _nats_line
from wgdisco.backends.nats import Nats
from wgdisco.errors import ConfigError, StoreError
from wgdisco.testing import BackendContract


class NatsServer(Server):
    """A server with JetStream; `settings` are lines of its configuration."""

    program = "nats-server"
    arguments: ClassVar[tuple[str, ...]] = ("-a", "127.0.0.1", "-p", "{port}", "-c", "{folder}/nats.conf")
    settings = ""
    jetstream = True

    def prepare(self) -> None:
        keeps = f"jetstream {{ store_dir: {json.dumps(str(self.folder / 'data'))} }}\n" if self.jetstream else ""
        (self.folder / "nats.conf").write_text(keeps + self.settings)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server; tests keep apart by bucket."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as running:
        yield running


def opened(where: NatsServer | str, **options: Any) -> AbstractAsyncContextManager[Nats]:
    url = where if isinstance(where, str) else where.url
    return opening(Nats(**{"servers": [url], "bucket": uuid4().hex, **options}))


class TestContract(BackendContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: NatsServer) -> None:
        self.control, self.bucket = server, uuid4().hex

    def backend(self) -> Backend:
        return Nats(servers=[self.control.url], bucket=self.bucket)


async def test_changes_are_pushed_and_not_polled(server: NatsServer) -> None:
    async with opened(server) as backend:
        backend.poll = 3600
        async with aclosing(backend.watch(slot("a"))) as values, asyncio.timeout(10):
            assert await anext(values) == []
            await backend.put(slot("a"), b"x", LATER)
            assert await anext(values) == [b"x"]
            await backend.remove(slot("a"))
            assert await anext(values) == []


async def test_what_got_lost_is_read_anew(server: NatsServer) -> None:
    """A follower whose subscription is silent sees the change at its next look."""
    async with opened(server) as backend:
        backend.poll = 0.3
        async with aclosing(backend.watch(slot("a"))) as values, asyncio.timeout(10):
            assert await anext(values) == []
            client, _ = await backend._line.opened()
            for each in [*client._subs.values()]:
                if each.subject.startswith("$KV."):
                    await each.unsubscribe()
            await backend.put(slot("a"), b"x", LATER)
            assert await anext(values) == [b"x"]


async def test_a_follower_hears_at_once_that_the_server_died(tmp_path: Path, caplog) -> None:
    """The library's own reconnecting would leave it waiting; raised, the core follows anew."""
    with NatsServer(tmp_path) as own:
        async with opened(own) as backend:
            backend.poll = 3600
            async with aclosing(backend.watch(slot("a"))) as values, asyncio.timeout(10):
                assert await anext(values) == []
                own.kill()
                own.start()
                with pytest.raises(ConnectionError):
                    await anext(values)
    gc.collect()
    assert [each for each in caplog.records if each.levelname in ("WARNING", "ERROR")] == []


async def test_a_frozen_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nats_line, "PING", 0.2)
    with NatsServer(tmp_path) as own:
        async with opened(own) as backend:
            backend.poll = 3600
            async with aclosing(backend.watch(slot("a"))) as values, asyncio.timeout(10):
                assert await anext(values) == []
                own.freeze()
                try:
                    with pytest.raises(ConnectionError):
                        await anext(values)
                finally:
                    own.thaw()


async def test_an_outage_says_nothing_on_stderr(tmp_path: Path, capfd, caplog) -> None:
    """The library logs a traceback for each attempt unless it is told not to."""
    with NatsServer(tmp_path) as own:
        async with opened(own) as backend:
            await backend.put(slot("a"), b"x", LATER)
            own.kill()
            for _ in range(3):
                with pytest.raises(OSError):
                    await backend.put(slot("a"), b"x", LATER)
    gc.collect()  # what nobody retrieved is told when it is forgotten
    assert capfd.readouterr().err == ""
    assert [each for each in caplog.records if each.levelname in ("WARNING", "ERROR")] == []


async def test_another_server_is_used_when_one_is_down(server: NatsServer) -> None:
    down = [f"nats://127.0.0.1:{port}" for port in free_ports(3)]
    async with opened(server, servers=[*down, server.url]) as backend:
        await backend.put(slot("a"), b"x", LATER)
        assert await backend.get(slot("a")) == [b"x"]


async def test_a_bucket_has_one_value_a_key_and_forgets_after_a_day(server: NatsServer) -> None:
    async with opened(server) as backend:
        _, bucket = await backend._line.opened()
        status = await bucket.status()
        assert (status.ttl, status.history) == (86400, 1)


async def test_a_bucket_that_was_deleted_is_made_again(server: NatsServer) -> None:
    async with opened(server) as backend:
        client, _ = await backend._line.opened()
        await client.jetstream().delete_key_value(backend.bucket)
        with pytest.raises(Exception, match=r"no response|no responders"):
            await backend.put(slot("a"), b"lost", LATER)
        await backend.put(slot("a"), b"x", LATER)
        assert await backend.get(slot("a")) == [b"x"]


async def test_a_server_without_jetstream_is_named_as_such(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as own:
        own.stop()
        own.jetstream = False
        own.start()
        async with opened(own) as backend:
            with pytest.raises(StoreError, match="the server has no JetStream, which keeps records; start it with"):
                await backend.get(slot("a"))


# rights


USERS = """
authorization { users = [
  { user: admin, password: "admin-pass" }
  { user: writer, password: "writer-pass", permissions {
    publish = ["$KV.wgdisco.>", "$JS.API.STREAM.INFO.KV_wgdisco", "$JS.API.DIRECT.GET.KV_wgdisco.>"]
    subscribe = ["$KV.wgdisco.>", "_INBOX.>"] } }
  { user: reader, password: "reader-pass", permissions {
    publish = ["$JS.API.STREAM.INFO.KV_wgdisco", "$JS.API.DIRECT.GET.KV_wgdisco.>"]
    subscribe = ["$KV.wgdisco.>", "_INBOX.>"] } }
  { user: deaf, password: "deaf-pass", permissions {
    publish = ["$JS.API.STREAM.INFO.KV_wgdisco", "$JS.API.DIRECT.GET.KV_wgdisco.>"]
    subscribe = ["_INBOX.>"] } }
] }
"""


def login(user: str) -> dict[str, Any]:
    return {"user": user, "password": Secret(f"{user}-pass"), "bucket": "wgdisco"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with the users of docs/backends/nats.md, and the bucket made by an administrator."""

    async def make() -> None:
        async with opened(running, **login("admin")) as backend:
            await backend.get(slot("a"))

    made = NatsServer(tmp_path_factory.mktemp("guarded"))
    made.settings = USERS
    with made as running:
        asyncio.run(make())
        yield running


async def test_the_rights_in_the_manual_are_enough(guarded: NatsServer) -> None:
    async with opened(guarded, **login("writer")) as writer, opened(guarded, **login("reader")) as reader:
        async with aclosing(reader.watch(slot("a"))) as values, asyncio.timeout(10):
            await anext(values)
            await writer.put(slot("a"), b"x", LATER)
            assert await anext(values) == [b"x"]
            await writer.remove(slot("a"))
            assert await anext(values) == []
        async with aclosing(writer.watch(slot("a"))) as values, asyncio.timeout(10):
            assert await anext(values) == []


async def test_a_refused_put_is_an_error_at_once(guarded: NatsServer) -> None:
    """The server tells refusals apart from answers; without a look at them there is only a timeout."""
    async with opened(guarded, **login("reader")) as reader:
        with pytest.raises(StoreError, match=r"(?i)permissions violation for publish"):
            await reader.put(slot("b"), b"x", LATER)
        assert await reader.get(slot("b")) == []


async def test_a_refused_watch_is_an_error_at_once(guarded: NatsServer) -> None:
    async with opened(guarded, **login("deaf")) as deaf, aclosing(deaf.watch(slot("a"))) as values:
        with pytest.raises(StoreError, match=r"(?i)permissions violation for subscription"):
            await anext(values)


async def test_a_bucket_nobody_may_make_is_an_error_at_once(guarded: NatsServer) -> None:
    async with opened(guarded, **(login("writer") | {"bucket": "other"})) as writer:
        with pytest.raises(StoreError, match=r"(?i)permissions violation for publish"):
            await writer.get(slot("a"))


async def test_a_wrong_password_is_an_error_that_does_not_quote_it(guarded: NatsServer) -> None:
    async with opened(guarded, user="writer", password=Secret("hunter2")) as backend:
        with pytest.raises(Exception, match=r"(?i)authorization violation") as caught:
            await backend.get(slot("a"))
        assert "hunter2" not in str(caught.value)


async def test_a_token_lets_in(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as own:
        own.stop()
        own.settings = 'authorization { token: "open-sesame" }'
        own.start()
        async with opened(own, token=Secret("open-sesame")) as backend:
            assert await backend.get(slot("a")) == []
        async with opened(own, token=Secret("hunter2")) as backend:
            with pytest.raises(Exception, match=r"(?i)authorization violation"):
                await backend.get(slot("a"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"servers": ["nats://me:hunter2@host"]}, "servers hold a user or password"),
        ({"servers": ["http://host"]}, "server 'http://host': expected nats://HOST:PORT or tls://HOST:PORT"),
        ({"servers": []}, "servers is empty"),
        ({"bucket": "a.b"}, "bucket 'a.b': expected letters, digits, - and _"),
        ({"user": "me"}, "user 'me' and password go together"),
        ({"ca": "ca.pem"}, "ca, cert and key are for TLS"),
        ({"servers": ["tls://host"], "ca": "/nowhere/ca.pem"}, "cannot use ca '/nowhere/ca.pem'"),
    ],
)
async def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    backend = Nats(**options)
    with pytest.raises(ConfigError) as caught:
        await backend.open()
    await backend.close()
    assert str(caught.value).startswith(message)
    assert "hunter2" not in str(caught.value)


# TLS


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that speaks TLS and asks for a client certificate."""
    folder = tmp_path_factory.mktemp("tls")
    certificate(folder, "ca", subject="/CN=ca")
    for name in ("server", "client"):
        certificate(folder, name, issuer="ca")
    made = NatsServer(folder)
    files = f'cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", ca_file: "{folder}/ca.pem"'
    made.settings = f"tls {{ {files}, verify: true }}"
    with made as running:
        yield running


def tls(server: NatsServer, **more: str) -> dict[str, Any]:
    folder = server.folder
    files = {"ca": f"{folder}/ca.pem", "cert": f"{folder}/client.pem", "key": f"{folder}/client.key"}
    return {"servers": [f"tls://127.0.0.1:{server.port}"], **files, **more}


async def test_tls_with_a_client_certificate(sealed: NatsServer) -> None:
    async with opened(sealed, **tls(sealed)) as backend:
        await backend.put(slot("a"), b"x", LATER)
        assert await backend.get(slot("a")) == [b"x"]


async def test_a_server_of_another_authority_is_refused(sealed: NatsServer, tmp_path: Path) -> None:
    other, _ = certificate(tmp_path, "other", subject="/CN=other")
    async with opened(sealed, **tls(sealed, ca=other)) as backend:
        with pytest.raises(Exception, match=r"(?i)certificate.verify.failed"):
            await backend.get(slot("a"))


async def test_a_certificate_for_another_name_is_refused(sealed: NatsServer) -> None:
    """The certificate is for 127.0.0.1, and the same server is reached by another name."""
    async with opened(sealed, **(tls(sealed) | {"servers": [f"tls://localhost:{sealed.port}"]})) as backend:
        with pytest.raises(Exception, match=r"(?i)hostname mismatch"):
            await backend.get(slot("a"))


async def test_a_server_that_offers_no_tls_is_told_nothing() -> None:
    """Whoever sits in between could strip the offer; the library would then say the password in plain."""
    said = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"auth_required":true}\r\n')
        said.extend(await reader.read())
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as listener:
        url = f"tls://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with opened(url, user="me", password=Secret("hunter2")) as backend:
            with pytest.raises(ConnectionError, match="offers no TLS; expected it because of tls://"):
                await backend.get(slot("a"))
    assert said == b""
