"""http, against nginx with its dav module: the contract, rights, TLS, conditional polling."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.backends.common import opening, slot
from tests.backends.etcdserver import certificate
from tests.backends.httpservers import PASSWORD, Nginx
from wgdisco.backend import Backend, Secret, to_text
from wgdisco.backends import http as module
from wgdisco.backends.http import Http
from wgdisco.errors import ConfigError, StoreError
from wgdisco.testing import BackendContract

FOLDERS = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """A server for all; tests keep apart by folder."""
    with Nginx(tmp_path_factory.mktemp("nginx")) as running:
        yield running


def opened(url: str, **options: Any) -> AbstractAsyncContextManager[Http]:
    return opening(Http(url=url, **options))


def fresh(server: Nginx, kind: str = "open") -> str:
    """The URL of a folder nobody else uses."""
    return f"{server.url}/{kind}/{next(FOLDERS)}/{{slot}}"


class TestContract(BackendContract):
    """What every backend has to do, with bytes and as text."""

    @pytest.fixture(autouse=True, params=[False, True], ids=["bytes", "text"])
    def _server(self, server: Nginx, request: pytest.FixtureRequest) -> None:
        self.control, self.url, self.text = server, fresh(server), request.param

    def backend(self) -> Backend:
        return Http(url=self.url, text=self.text)


# conditional polling


async def test_an_unchanged_record_is_not_sent_again(server: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED", 0.0)
    async with opened(fresh(server)) as backend:
        await backend.put(slot("a"), b"same", 600)
        for _ in range(3):
            assert await backend.get(slot("a")) == [b"same"]
    assert server.asked()[-3:] == ["200", "304", "304"]


async def test_two_records_of_one_second_and_one_size_are_both_seen(server: Nginx) -> None:
    """nginx gives both the same ETag; relying on it would hide the second for good."""
    url = fresh(server)
    async with opened(url) as writer, opened(url) as reader:
        for number in range(10):
            await writer.put(slot("a"), b"record %d" % number, 600)
            assert await reader.get(slot("a")) == [b"record %d" % number]


async def test_a_record_that_is_removed_is_forgotten_by_who_knew_it(
    server: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED", 0.0)
    async with opened(fresh(server)) as backend:
        await backend.put(slot("a"), b"here", 600)
        assert await backend.get(slot("a")) == [b"here"]
        await backend.remove(slot("a"))
        assert await backend.get(slot("a")) == []


# rights


async def test_a_reader_needs_no_password(server: Nginx) -> None:
    url = fresh(server, "members")
    async with opened(url, user="writer", password=Secret(PASSWORD)) as writer, opened(url) as reader:
        await writer.put(slot("a"), b"x", 600)
        assert await reader.get(slot("a")) == [b"x"]
        for denied in (reader.put(slot("a"), b"y", 600), reader.remove(slot("a"))):
            with pytest.raises(StoreError, match="HTTP 401: the server wants credentials"):
                await denied


async def test_a_wrong_password_is_refused_and_not_shown(server: Nginx) -> None:
    async with opened(fresh(server, "members"), user="writer", password=Secret("hunter2")) as backend:
        with pytest.raises(StoreError) as caught:
            await backend.put(slot("a"), b"x", 600)
    place = backend.url.replace("{slot}", slot("a").text)
    assert str(caught.value) == (
        f"PUT {place}: HTTP 401: the server wants credentials, or others; check the options user and password, or token"
    )


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("closed", "HTTP 403: forbidden"), ("plain", "HTTP 405: .* switch WebDAV on"), ("small", "HTTP 413: too large")],
)
async def test_a_refused_write_says_what_to_do(server: Nginx, folder: str, expected: str) -> None:
    async with opened(f"{server.url}/{folder}/{{slot}}") as backend:
        with pytest.raises(StoreError, match=expected):
            await backend.put(slot("a"), b"more than eight", 600)


async def test_text_lies_there_as_text(server: Nginx) -> None:
    async with opened(fresh(server), text=True) as backend:
        await backend.put(slot("a"), b"\x00\xff", 600)
        path = server.folder / "data" / backend.url.split("/", 3)[3].format(slot=slot("a").text)
        assert path.read_text() == to_text(b"\x00\xff")
        path.write_text("not ours")
        assert await backend.get(slot("a")) == []


# trouble


async def test_a_server_that_is_down_says_so(server: Nginx) -> None:
    async with opened("http://127.0.0.1:9/{slot}") as backend:
        with pytest.raises(ConnectionError, match=r"^GET http://127.0.0.1:9/[a-z2-7]{32}: .*(refused|failed)"):
            await backend.get(slot("a"))


async def test_a_frozen_server_is_given_up(server: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.3)
    async with opened(fresh(server)) as backend:
        server.freeze()
        try:
            with pytest.raises(ConnectionError, match=r"no answer within 0\.3 s"):
                await backend.get(slot("a"))
        finally:
            server.thaw()


async def test_closing_leaves_nothing_behind(server: Nginx) -> None:
    before = asyncio.all_tasks()
    async with opened(fresh(server)) as backend:
        await backend.put(slot("a"), b"x", 600)
    assert asyncio.all_tasks() == before


# TLS


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nginx, str]]:
    """A server with a certificate of an authority of its own, and that authority's file."""
    folder = tmp_path_factory.mktemp("tls")
    ca, _ = certificate(folder, "ca", subject="/O=wgdisco test")
    with Nginx(folder, certificate(folder, "server", issuer="ca")) as running:
        yield running, ca


async def test_the_certificate_authority_is_an_option(encrypted: tuple[Nginx, str]) -> None:
    server, ca = encrypted
    async with opened(fresh(server), ca=ca) as backend:
        await backend.put(slot("a"), b"x", 600)
        assert await backend.get(slot("a")) == [b"x"]


async def test_a_certificate_of_somebody_else_is_refused(encrypted: tuple[Nginx, str]) -> None:
    server, _ = encrypted
    async with opened(fresh(server)) as backend:
        with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await backend.put(slot("a"), b"x", 600)


async def test_a_ca_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^ca '/none.pem': No such file or directory; expected a file with cert"):
        await Http(url="https://127.0.0.1/{slot}", ca="/none.pem").open()
