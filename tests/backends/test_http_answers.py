"""http with servers that say all kinds of things: ETags, limits, redirects, what is endless, secret or wrong."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate
from typing import Any

import pytest

from tests.backends.common import opening, slot
from tests.backends.httpservers import Request, Said, speaking
from wgdisco.backend import RetryLater, Secret
from wgdisco.backends import http as module
from wgdisco.backends.http import Http
from wgdisco.errors import ConfigError, StoreError
from wgdisco.store import Store


def opened(url: str, **options: Any) -> AbstractAsyncContextManager[Http]:
    return opening(Http(url=f"{url}/{{slot}}" if "{slot}" not in url else url, **options))


# ETags


async def test_a_put_names_the_version_it_replaces() -> None:
    """So a PUT that a server which was frozen carries out late does not undo the one that followed."""
    with speaking(lambda _: Said(201, {"ETag": '"v1"'})) as (url, heard):
        async with opened(url) as backend:
            for blob in (b"1", b"2"):
                await backend.put(slot("a"), blob, 600)
    assert [request.headers.get("if-match") for request in heard] == [None, '"v1"']


@pytest.mark.parametrize("status", [412, 501])
async def test_a_version_that_somebody_else_replaced_stops_nobody(status: int) -> None:
    def answer(request: Request) -> Said:
        return Said(status) if "if-match" in request.headers else Said(201, {"ETag": '"v1"'})

    with speaking(answer) as (url, heard):
        async with opened(url) as backend:
            for blob in (b"1", b"2"):
                await backend.put(slot("a"), blob, 600)
    assert [request.body for request in heard] == [b"1", b"2", b"2"]


async def test_a_weak_etag_is_no_version_to_replace() -> None:
    with speaking(lambda _: Said(201, {"ETag": 'W/"v1"'})) as (url, heard):
        async with opened(url) as backend:
            for blob in (b"1", b"2"):
                await backend.put(slot("a"), blob, 600)
    assert "if-match" not in heard[1].headers


@pytest.mark.parametrize(("age", "conditional"), [(0, False), (60, True)])
async def test_a_record_of_this_moment_is_asked_for_whole(age: float, conditional: bool) -> None:
    changed = {"ETag": '"1-6"', "Last-Modified": formatdate(time.time() - age, usegmt=True)}
    with speaking(lambda _: Said(200, changed, b"record")) as (url, heard):
        async with opened(url) as backend:
            for _ in range(2):
                assert await backend.get(slot("a")) == [b"record"]
    assert ("if-none-match" in heard[1].headers) == conditional


async def test_not_modified_without_being_asked_is_an_error() -> None:
    with speaking(lambda _: Said(304)) as (url, _):
        async with opened(url) as backend:
            with pytest.raises(StoreError, match="HTTP 304"):
                await backend.get(slot("a"))


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    with speaking(lambda _: Said(200, {"ETag": '"v"'}, b"x")) as (url, _):
        async with opened(url) as backend:
            for number in range(9):
                await backend.get(slot(number))
                await backend.put(slot(number), b"x", 600)
            assert len(backend._known) == len(backend._written) == 3


# limits


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [(429, "777", 777), (429, "", 60), (429, "soon", 60), (429, "0", 1), (503, "777", 777), (429, "9" * 30, 86400)],
)
async def test_a_server_that_asks_for_time_gets_it(status: int, header: str, seconds: float) -> None:
    with speaking(lambda _: Said(status, {"Retry-After": header} if header else {})) as (url, heard):
        async with opened(url) as backend:
            with pytest.raises(
                RetryLater, match=rf"HTTP {status}: the server asks to come back in {seconds} s"
            ) as caught:
                await backend.put(slot("a"), b"x", 600)
    assert (caught.value.seconds, len(heard)) == (seconds, 1)


async def test_a_date_to_come_back_at_is_understood() -> None:
    date = formatdate(time.time() + 500, usegmt=True)
    with speaking(lambda _: Said(429, {"Retry-After": date})) as (url, _):
        store = Store(Http(url=f"{url}/{{slot}}"))
        with pytest.raises(StoreError):
            await store.put(slot("a"), b"x", 600)
        await store.close()
    assert store.rests == pytest.approx(500, abs=5)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "HTTP 404: there is no such folder; create it"),
        (409, "HTTP 409: the folder does not exist; create it"),
        (423, "HTTP 423: locked"),
        (507, "HTTP 507: the server is out of space"),
        (500, r"HTTP 500 b'the reason'"),
        (503, r"HTTP 503 b'the reason'"),
    ],
)
async def test_a_write_that_fails_says_what_to_do(status: int, expected: str) -> None:
    with speaking(lambda _: Said(status, body=b"the reason")) as (url, _):
        async with opened(url) as backend:
            with pytest.raises(StoreError, match=expected):
                await backend.put(slot("a"), b"x", 600)


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_not_there_is_nothing(status: int) -> None:
    with speaking(lambda _: Said(status)) as (url, _):
        async with opened(url) as backend:
            assert await backend.get(slot("a")) == []
            await backend.remove(slot("a"))


async def test_an_endless_answer_is_cut() -> None:
    sent: list[int] = []
    with speaking(lambda _: Said(endless=sent)) as (url, _):
        async with opened(url) as backend:
            assert await backend.get(slot("a")) == [bytes(module.BIGGEST)]
    assert sum(sent) < 1 << 24


# redirects


async def test_a_write_follows_no_redirect() -> None:
    with (
        speaking(lambda _: Said()) as (elsewhere, lured),
        speaking(lambda _: Said(307, {"Location": f"{elsewhere}/x?secret"})) as (url, _),
    ):
        async with opened(url) as backend:
            with pytest.raises(StoreError, match=rf"HTTP 307: it is redirected to {elsewhere}/x; write that into"):
                await backend.put(slot("a"), b"x", 600)
    assert lured == []


async def test_a_read_follows_a_redirect_without_credentials() -> None:
    with (
        speaking(lambda _: Said(body=b"there")) as (elsewhere, lured),
        speaking(lambda _: Said(302, {"Location": f"{elsewhere}/x"})) as (url, heard),
    ):
        async with opened(url, token=Secret("hunter2"), token_header="X-Token") as backend:
            assert await backend.get(slot("a")) == [b"there"]
    assert heard[0].headers["x-token"] == "hunter2"
    assert "x-token" not in lured[0].headers


async def test_redirects_in_a_circle_end() -> None:
    with speaking(lambda request: Said(302, {"Location": request.path + "x"})) as (url, heard):
        async with opened(url) as backend:
            with pytest.raises(StoreError, match="redirected more than 3 times"):
                await backend.get(slot("a"))
    assert len(heard) == 4


async def test_a_read_is_redirected_to_no_other_scheme() -> None:
    with speaking(lambda _: Said(302, {"Location": "ftp://127.0.0.1/x"})) as (url, _):
        async with opened(url) as backend:
            with pytest.raises(StoreError, match=r"is redirected to ftp://127\.0\.0\.1/x, which is not encrypted"):
                await backend.get(slot("a"))


# options


async def test_every_option_of_a_request() -> None:
    """A signed query, further headers, a bearer token, POST, and no removal."""
    with speaking(lambda _: Said(201)) as (url, heard):
        async with opened(
            f"{url}/wg/{{slot}}?v=1",
            query=Secret("?sig=hunter2"),
            headers={"X-Blob": "block"},
            token=Secret("t0ken"),
            method="POST",
            delete=False,
        ) as backend:
            await backend.put(slot("a"), b"x", 600)
            await backend.remove(slot("a"))
    assert [(request.method, request.path) for request in heard] == [("POST", f"/wg/{slot('a').text}?v=1&sig=hunter2")]
    assert (heard[0].headers["authorization"], heard[0].headers["x-blob"]) == ("Bearer t0ken", "block")


async def test_the_secret_query_is_in_no_error() -> None:
    with speaking(lambda _: Said(403)) as (url, _):
        async with opened(url, query=Secret("sig=hunter2")) as backend:
            with pytest.raises(StoreError) as caught:
                await backend.put(slot("a"), b"x", 600)
    async with opened("http://127.0.0.1:9", query=Secret("sig=hunter2")) as backend:
        with pytest.raises(ConnectionError) as gone:
            await backend.put(slot("a"), b"x", 600)
    assert "hunter2" not in str(caught.value) + str(gone.value)


async def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with speaking(lambda _: Said(body=b"x")) as (url, _):
        async with opened(url) as backend:
            assert await backend.get(slot("a")) == [b"x"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"url": "https://nas.example/wg/"}, r"^url 'https://nas\.example/wg/' has no \{slot\}; expected a URL like"),
        ({"url": "ftp://nas.example/{slot}"}, r"^url 'ftp://nas\.example/\{slot\}': expected a URL like"),
        ({"url": "nas/{slot}"}, "expected a URL like 'https://nas.example/wg/"),
        (
            {"url": "https://a:hunter2@nas/{slot}"},
            r"^url 'https://nas/\{slot\}' has a user in it; use the options user",
        ),
        ({"url": "https://nas/{slot}", "user": "a"}, "^user 'a' and password go together"),
        ({"url": "https://nas/{slot}", "password": Secret("x")}, "^user '' and password go together"),
        ({"url": "https://nas/{slot}", "user": "a:b", "password": Secret("x")}, "^user 'a:b' has a colon in it"),
        (
            {"url": "https://nas/{slot}", "user": "a", "password": Secret("x"), "token": Secret("y")},
            "^user 'a' and token are two ways",
        ),
        ({"url": "https://nas/{slot}", "token": Secret("hunter2\n")}, "^token has characters that no HTTP request"),
        ({"url": "https://nas/{slot}", "query": Secret("hunter2\n")}, "^query has characters that no HTTP request"),
        ({"url": "http://nas/{slot}", "ca": "/ca.pem"}, "^ca '/ca.pem' is for https, but url is 'http://nas/"),
    ],
)
async def test_options_that_cannot_be_used_are_named(options: dict[str, Any], expected: str) -> None:
    backend = Http(**options)
    with pytest.raises(ConfigError, match=expected) as caught:
        await backend.open()
    assert "hunter2" not in str(caught.value)
    await backend.close()
