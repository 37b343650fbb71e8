"""pastebin when something is wrong: rights, limits, servers that answer oddly, and what must not be sent or shown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.backends.common import opening, slot
from tests.backends.etcdserver import certificate
from tests.backends.httpservers import Request, Said, speaking
from tests.backends.pastebinfake import DEVELOPER, GIST, TOKEN, USER
from tests.backends.pastebinservers import Bepasty, Fake, gist, pastebin_com
from wgdisco.backend import RetryLater, Secret, to_text
from wgdisco.backends import _pastebin_web
from wgdisco.backends.pastebin import Pastebin
from wgdisco.errors import ConfigError, StoreError
from wgdisco.store import Store


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    with Fake(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.fixture(scope="module")
def bepasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bepasty]:
    with Bepasty(tmp_path_factory.mktemp("bepasty")) as running:
        yield running


def bepasty_at(url: str) -> Pastebin:
    return Pastebin(service="bepasty", url=url, token=Secret("writes"))


SERVICES: dict[str, Callable[[str], Pastebin]] = {"pastebin.com": pastebin_com, "gist": gist, "bepasty": bepasty_at}


def option(request: Request) -> str:
    """What pastebin.com is asked for: paste, list, delete, or the path of a raw paste."""
    return parse_qs(request.body.decode()).get("api_option", [request.path])[0]


def listed(*titles: str, expires: int = 0) -> bytes:
    """A list of pastes as pastebin.com gives it, with keys k0, k1, …"""
    return "".join(
        f"<paste>\n<paste_key>k{number}</paste_key>\n<paste_date>{number}</paste_date>\n"
        f"<paste_title>{title}</paste_title>\n<paste_expire_date>{expires}</paste_expire_date>\n</paste>\n"
        for number, title in enumerate(titles)
    ).encode()


def title(name: object) -> str:
    return f"wgdisco-v1-{slot(name).text}"


# rights


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda url: pastebin_com(url, key="wrong0secret"), "invalid api_dev_key'; check the option key"),
        (lambda url: pastebin_com(url, token="wrong0secret"), "invalid api_user_key'; a login replaces the user key"),
        (lambda url: gist(url, token="wrong0secret"), "HTTP 401: the token is not accepted; check the option token"),
    ],
)
async def test_a_wrong_key_is_named_and_not_shown(fake: Fake, make: Callable[[str], Pastebin], expected: str) -> None:
    async with opening(make(fake.url)) as backend:
        with pytest.raises(StoreError) as caught:
            await backend.put(slot("a"), b"x", 600)
    assert expected in str(caught.value)
    assert "wrong0secret" not in str(caught.value)


async def test_a_wrong_token_for_bepasty_is_refused(bepasty: Bepasty) -> None:
    async with opening(bepasty.backend("wrong")) as backend:
        with pytest.raises(StoreError, match="HTTP 403: forbidden; the token lacks a right"):
            await backend.get(slot("a"))


async def test_a_reader_of_bepasty_may_read_and_nothing_else(bepasty: Bepasty) -> None:
    async with opening(bepasty.backend()) as writer, opening(bepasty.backend("reads")) as reader:
        await writer.put(slot("a"), b"x", 600)
        assert await reader.get(slot("a")) == [b"x"]
        for denied in (reader.put(slot("a"), b"y", 600), reader.remove(slot("a"))):
            with pytest.raises(StoreError, match="HTTP 403"):
                await denied
        assert await reader.get(slot("a")) == [b"x"]


async def test_a_reader_of_a_gist_needs_no_token(fake: Fake) -> None:
    async with opening(gist(fake.url)) as writer, opening(gist(fake.url, token="")) as reader:
        await writer.put(slot("a"), b"x", 600)
        assert await reader.get(slot("a")) == [b"x"]
        with pytest.raises(StoreError, match="HTTP 401"):
            await reader.put(slot("a"), b"y", 600)


async def test_pastes_are_read_without_a_key() -> None:
    with speaking(lambda r: Said(body=listed(title("a")) if r.body else to_text(b"x").encode())) as (url, heard):
        async with opening(pastebin_com(url)) as backend:
            assert await backend.get(slot("a")) == [b"x"]
    assert heard[1].path == "/raw/k0"
    assert not {DEVELOPER, USER} & set(" ".join([heard[1].path, *heard[1].headers.values()]).split())


# limits


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_service_that_asks_for_time_gets_it(service: str, status: int) -> None:
    """One request, and the core stays away for as long as it was told."""
    with speaking(lambda _: Said(status, {"Retry-After": "777"})) as (url, heard):
        backend = SERVICES[service](url)
        store = Store(backend)
        with pytest.raises(StoreError, match=f"^pastebin: .*HTTP {status}: the service asks to come back in 777 s"):
            await store.put(slot("a"), b"x", 600)
        await store.close()
    assert len(heard) == 1
    assert store.rests == pytest.approx(777, abs=5)


async def test_the_limit_of_github_is_kept_as_github_says_it() -> None:
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 1800)}
    with speaking(lambda _: Said(403, reset)) as (url, _):
        async with opening(gist(url, token="")) as backend:
            with pytest.raises(RetryLater) as caught:
                await backend.get(slot("a"))
    assert caught.value.seconds == pytest.approx(1800, abs=10)


@pytest.mark.parametrize(
    ("words", "seconds", "advice"),
    [
        ("Post limit, maximum pastes per 24h reached", 3600, "publish less often"),
        ("Bad API request, IP blocked", 300, "IP blocked"),
        ("Bad API request, maximum number of 25 unlisted pastes for your free account", None, "set public = true"),
        ("Bad API request, maximum paste file size exceeded", None, "file size exceeded"),
        ("<html>maintenance</html>", None, "refused paste: '<html>maintenance"),
        ("", None, "refused paste: ''"),
    ],
)
async def test_an_error_with_status_200_is_an_error(words: str, seconds: float | None, advice: str) -> None:
    def answer(request: Request) -> Said:
        return Said(body=b"No pastes found." if option(request) == "list" else words.encode())

    with speaking(answer) as (url, heard):
        async with opening(pastebin_com(url)) as backend:
            with pytest.raises(StoreError, match=advice) as caught:
                await backend.put(slot("a"), b"x", 600)
    assert getattr(caught.value, "seconds", None) == seconds
    assert [option(request) for request in heard] == ["list", "paste"]


@pytest.mark.parametrize(
    ("lifetime", "expiry"),
    [(60, "10M"), (600, "10M"), (601, "1H"), (86400, "1D"), (100_000, "1W"), (2_000_000, "1M"), (40_000_000, "N")],
)
async def test_a_paste_expires_after_the_lifetime_and_soon(lifetime: int, expiry: str) -> None:
    def answer(request: Request) -> Said:
        return Said(body=b"No pastes found." if option(request) == "list" else b"https://pastebin.com/New")

    with speaking(answer) as (url, heard):
        async with opening(pastebin_com(url)) as backend:
            await backend.put(slot("a"), b"x", lifetime)
    assert parse_qs(heard[1].body.decode())["api_paste_expire_date"] == [expiry]


# replacing


def account(old: str, deleting: Said) -> Callable[[Request], Said]:
    """An account with one old paste in slot a, which expires in an hour."""
    answers = {
        "list": Said(body=listed(title("a"), expires=int(time.time()) + 3600)),
        "paste": Said(body=b"https://pastebin.com/New"),
        "delete": deleting,
        "/raw/k0": Said(body=old.encode()),
    }
    return lambda request: answers[option(request)]


async def test_a_new_paste_is_made_before_the_old_one_is_deleted() -> None:
    with speaking(account(to_text(b"old"), Said(body=b"Paste Removed"))) as (url, heard):
        async with opening(pastebin_com(url)) as backend:
            await backend.put(slot("a"), b"new", 600)
    assert [option(request) for request in heard] == ["list", "/raw/k0", "paste", "delete"]


async def test_a_refresh_costs_no_paste_while_the_old_one_lives_long_enough() -> None:
    with speaking(account(to_text(b"same"), Said(body=b"Paste Removed"))) as (url, heard):
        async with opening(pastebin_com(url)) as backend:
            await backend.put(slot("a"), b"same", 600)
            assert "paste" not in [option(request) for request in heard]
            await backend.put(slot("a"), b"same", 7200)
            assert [option(request) for request in heard][-2:] == ["paste", "delete"]


@pytest.mark.parametrize("said", [Said(500), Said(429), Said(body=b"Bad API request, invalid api_user_key")])
async def test_a_record_counts_as_stored_when_only_the_old_one_could_not_be_deleted(said: Said) -> None:
    """An error would have it pasted again and again, until the day's limit is reached."""
    with speaking(account(to_text(b"old"), said)) as (url, heard):
        async with opening(pastebin_com(url)) as backend:
            await backend.put(slot("a"), b"new", 600)
    assert option(heard[-1]) == "delete"


async def test_bepasty_keeps_one_item_for_each_slot_and_as_long_as_asked(bepasty: Bepasty) -> None:
    async with opening(bepasty.backend(prefix="one-")) as backend:
        for blob in (b"1", b"2", b"3"):
            await backend.put(slot("a"), blob, 90)
        items = [paste for name, paste in backend._service.listing() if name == f"one-{slot('a').text}"]
    assert [paste.expires - paste.made for paste in items] == [pytest.approx(120, abs=1)]


async def test_other_files_of_a_gist_stay(fake: Fake) -> None:
    async with opening(gist(fake.url)) as backend:
        await backend.put(slot("a"), b"x", 600)
        await backend.remove(slot("a"))
        assert [name for name, _ in backend._service.listing()] == ["README.md"]


# reading


async def test_a_gist_that_has_not_changed_is_not_sent_again() -> None:
    files = {"files": {title("a"): {"content": to_text(b"x")}}}

    def answer(request: Request) -> Said:
        same = request.headers.get("if-none-match") == '"v1"'
        return Said(304 if same else 200, {"ETag": '"v1"'}, json.dumps(files).encode())

    with speaking(answer) as (url, heard):
        async with opening(gist(url)) as backend:
            for _ in range(3):
                assert await backend.get(slot("a")) == [b"x"]
    assert [request.headers.get("if-none-match") for request in heard] == [None, '"v1"', '"v1"']


async def test_many_slots_are_one_listing_and_each_paste_is_read_once() -> None:
    with speaking(lambda r: Said(body=listed(title(3), title(7)) if r.body else to_text(b"x").encode())) as (
        url,
        heard,
    ):
        async with opening(pastebin_com(url)) as backend:
            for _ in range(2):
                found = {place: values async for place, values in backend.fetch([slot(number) for number in range(50)])}
                assert [number for number in range(50) if found[slot(number)]] == [3, 7]
    assert [option(request) for request in heard] == ["list", "/raw/k0", "/raw/k1", "list"]


async def test_a_paste_replaced_while_it_was_read_is_looked_for_again() -> None:
    listings = iter([listed(title("a")), listed("gone", title("a"))])
    raw = {"/raw/k0": Said(404), "/raw/k1": Said(body=to_text(b"new").encode())}
    with speaking(lambda r: Said(body=next(listings)) if r.body else raw[r.path]) as (url, _):
        async with opening(pastebin_com(url)) as backend:
            assert await backend.get(slot("a")) == [b"new"]


async def test_a_flood_of_pastes_with_our_title_costs_sixteen_requests() -> None:
    with speaking(lambda r: Said(body=listed(*[title("a")] * 500) if r.body else b"not ours")) as (url, heard):
        async with opening(pastebin_com(url)) as backend:
            assert await backend.get(slot("a")) == []
    assert [request.path for request in heard[1:]] == [f"/raw/k{number}" for number in range(499, 483, -1)]


@pytest.mark.parametrize("service", ["gist", "bepasty"])
@pytest.mark.parametrize("body", [b"<html>", b"[]", b"7", b"\xff", b"[" * 100_000, b""])
async def test_an_answer_that_is_no_list_is_an_error(service: str, body: bytes) -> None:
    with speaking(lambda _: Said(body=body)) as (url, _):
        async with opening(SERVICES[service](url)) as backend:
            with pytest.raises(StoreError, match=r"is no (JSON|gist).*check the options? (service and )?url"):
                await backend.get(slot("a"))


@pytest.mark.parametrize(
    "item", ["7", "[]", '{"file-meta": 7}', '{"file-meta": {"complete": 1, "timestamp-upload": []}}']
)
async def test_odd_items_are_passed_over(item: str) -> None:
    with speaking(lambda _: Said(body=b'{"x": %s}' % item.encode())) as (url, _):
        async with opening(bepasty_at(url)) as backend:
            assert await backend.get(slot("a")) == []


@pytest.mark.parametrize("service", SERVICES)
async def test_an_endless_answer_is_cut(service: str) -> None:
    sent: list[int] = []
    with speaking(lambda _: Said(endless=sent)) as (url, _):
        async with opening(SERVICES[service](url)) as backend:
            with pytest.raises(StoreError, match="an answer of more than 4194304 bytes"):
                await backend.get(slot("a"))
    assert sum(sent) < 1 << 24


async def test_an_endless_paste_is_cut_and_passed_over() -> None:
    sent: list[int] = []
    with speaking(lambda r: Said(body=listed(title("a"))) if r.body else Said(endless=sent)) as (url, _):
        async with opening(pastebin_com(url)) as backend:
            assert await backend.get(slot("a")) == []
    assert sum(sent) < 1 << 24


# what must not be sent or shown


@pytest.mark.parametrize("service", SERVICES)
async def test_a_redirect_is_not_followed_and_keys_go_nowhere_else(service: str) -> None:
    with (
        speaking(lambda _: Said()) as (elsewhere, lured),
        speaking(lambda _: Said(307, {"Location": f"{elsewhere}/x?secret"})) as (url, _),
    ):
        async with opening(SERVICES[service](url)) as backend:
            with pytest.raises(StoreError, match=r"HTTP 307: redirected to http://127\.0\.0\.1/x; correct"):
                await backend.get(slot("a"))
    assert lured == []


async def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By default requests lets a .netrc replace our token, and REQUESTS_CA_BUNDLE the option ca."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with speaking(lambda _: Said(body=b'{"files": {}}')) as (url, heard):
        async with opening(gist(url)) as backend:
            assert await backend.get(slot("a")) == []
    assert heard[0].headers["authorization"] == f"Bearer {TOKEN}"


async def test_the_certificate_authority_is_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    ca, _ = certificate(tmp_path, "ca", subject="/O=wgdisco test")
    with speaking(lambda _: Said(body=b'{"files": {}}'), certificate(tmp_path, "server", issuer="ca")) as (url, _):
        async with opening(gist(url, ca=ca)) as backend:
            assert await backend.get(slot("a")) == []
        async with opening(gist(url)) as backend:
            with pytest.raises(ConnectionError, match="the certificate is not accepted; is the option ca right"):
                await backend.get(slot("a"))


async def test_a_server_that_is_down_says_so() -> None:
    async with opening(gist("http://127.0.0.1:9")) as backend:
        with pytest.raises(ConnectionError, match=f"^GET http://127.0.0.1:9/gists/{GIST}: .*refused"):
            await backend.get(slot("a"))


async def test_a_frozen_server_is_given_up(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pastebin_web, "TIMEOUT", (0.3, 0.3))
    async with opening(pastebin_com(fake.url)) as backend:
        fake.freeze()
        try:
            with pytest.raises(ConnectionError, match=r"no answer within 0\.3 s$"):
                await backend.get(slot("a"))
        finally:
            fake.thaw()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"service": "bepasty"}, "^url '': expected the URL of the server"),
        ({"service": "bepasty", "url": "ftp://x"}, "^url 'ftp://x': expected"),
        ({"service": "bepasty", "url": "http://a:hunter2@x"}, "^url has a user in it; use the option token$"),
        ({"service": "bepasty", "url": "http://x", "ca": "/none.pem"}, r"^ca '/none\.pem' is no file"),
        ({"service": "bepasty", "url": "http://x", "token": Secret("hunter2\n")}, "^token has characters that no"),
        ({"service": "gist"}, "^gist '' is no id of a gist"),
        ({"service": "gist", "gist": "../user"}, r"^gist '\.\./user' is no id of a gist"),
        ({"service": "pastebin.com", "token": Secret("x")}, "^pastebin.com lists pastes only for who has both keys"),
    ],
)
async def test_options_that_cannot_be_used_are_named(options: dict[str, str], expected: str) -> None:
    backend = Pastebin(**options)
    with pytest.raises(ConfigError, match=expected):
        await backend.open()
    await backend.close()
