"""etcd that is down, frozen, killed, empty, full, or no etcd at all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.common import slot
from tests.backends.etcdclient import LATER, Follower, asked, backend_at, following, impostor, opened
from tests.backends.etcdserver import EtcdServer, started
from wgdisco.backend import RetryLater, Secret
from wgdisco.backends import _etcd_gateway, _etcd_view
from wgdisco.backends._etcd_messages import TooMuch
from wgdisco.backends.etcd import Etcd
from wgdisco.errors import ConfigError, StoreError


@pytest.fixture
def own() -> Iterator[EtcdServer]:
    """A server that the test may break."""
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def debian() -> Iterator[EtcdServer]:
    """A server of Debian's version alone, for what does not depend on etcd's."""
    with started() as running:
        yield running


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience, so that tests of outages are short."""
    monkeypatch.setattr(_etcd_gateway, "REQUEST", 0.4)
    monkeypatch.setattr(_etcd_view, "PATIENCE", 0.6)
    monkeypatch.setattr(_etcd_view, "PAUSE", 0.05)


async def watching(backend: Etcd, follower: Follower) -> None:
    """Wait until the follower has seen a change that came after its range, so by its watch."""
    await follower.until(a=None)
    for blob in (b"1", b"2", b"3"):
        await backend.put(slot("a"), blob, LATER)
        await follower.until(a=blob)


async def test_a_server_killed_in_mid_watch_and_back_is_followed_on(own: EtcdServer) -> None:
    async with opened(own) as backend, following(backend, "a") as follower:
        await watching(backend, follower)
        own.kill()
        await asyncio.sleep(0.3)
        own.start()
        await backend.put(slot("a"), b"after", LATER)
        await follower.until(a=b"after")


async def test_a_server_that_comes_back_empty_is_followed_on(own: EtcdServer) -> None:
    """Its revisions begin anew, so a watch from the last one seen would be silent for long."""
    async with opened(own, heartbeat=0.3) as backend, following(backend, "a") as follower:
        await watching(backend, follower)
        own.kill()
        (own.folder / "data").rename(own.folder / "lost")
        own.start()
        await follower.until(a=None)
        await backend.put(slot("a"), b"1", LATER)
        await follower.until(a=b"1")


@pytest.mark.parametrize("trouble", ["kill", "freeze"])
async def test_a_watch_never_dies_in_silence(own: EtcdServer, hasty: None, trouble: str) -> None:
    """A server that is gone ends the watch with an error; a frozen one does so after the heartbeat."""
    async with opened(own, heartbeat=0.3) as backend, following(backend, "a") as follower:
        await watching(backend, follower)
        getattr(own, trouble)()
        async with asyncio.timeout(5):
            await asyncio.wait({follower.task})
        with pytest.raises(ConnectionError, match=re.escape(own.url)):
            follower.task.result()


async def test_a_server_that_is_down_says_so(own: EtcdServer) -> None:
    own.kill()
    async with opened(own) as backend:
        with pytest.raises(ConnectionError, match=f"^no endpoint can serve: {own.url}: .*(refused|failed)"):
            await backend.get(slot("a"))
        with pytest.raises(ConnectionError, match=own.url):
            await backend.put(slot("a"), b"x", LATER)


async def test_a_frozen_server_is_left_after_the_time_for_a_request(own: EtcdServer, hasty: None) -> None:
    async with opened(own) as backend:
        await backend.put(slot("a"), b"x", LATER)
        own.freeze()
        with pytest.raises(ConnectionError) as caught:
            await backend.get(slot("a"))
        assert str(caught.value) == f"no endpoint can serve: {own.url}: no answer within 0.4 s"
        own.thaw()
        assert await backend.get(slot("a")) == [b"x"]


async def test_a_frozen_server_is_asked_for_a_token_once(
    own: EtcdServer, debian: EtcdServer, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten calls that want a token do not wait for it one after the other."""
    own.freeze()
    async with opened(own, debian, user="u", password=Secret("p")) as backend:
        paths = asked(backend, monkeypatch)
        assert await asyncio.gather(*(backend.get(slot("a")) for _ in range(10))) == [[]] * 10
        assert paths.count("auth/authenticate") == 2


async def test_the_next_endpoint_takes_over_and_is_kept(
    own: EtcdServer, debian: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.kill()
    async with opened(own, debian) as backend:
        await backend.put(slot("a"), b"x", LATER)
        paths = asked(backend, monkeypatch)
        assert await backend.get(slot("a")) == [b"x"]
        assert paths == ["kv/txn"]


async def test_a_call_to_a_frozen_server_can_be_cancelled(own: EtcdServer) -> None:
    async with opened(own) as backend:
        own.freeze()
        task = asyncio.ensure_future(backend.get(slot("a")))
        await asyncio.sleep(0.1)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=1)
        assert done == {task}


async def test_closing_leaves_nothing_behind(debian: EtcdServer) -> None:
    before = descriptors(), asyncio.all_tasks()
    async with opened(debian) as backend:
        async with following(backend, "a") as follower:
            await follower.until(a=None)
        await backend.put(slot("a"), b"x", LATER)
    assert (descriptors(), asyncio.all_tasks()) == before


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def test_closing_is_harmless_when_opening_failed() -> None:
    backend = Etcd(endpoints=[])
    with pytest.raises(ConfigError):
        await backend.open()
    await backend.close()


async def test_too_large_a_value_is_refused_in_etcds_words(debian: EtcdServer) -> None:
    async with opened(debian) as backend:
        with pytest.raises(StoreError, match=f"^{debian.url} refused kv/txn: etcdserver: request is too large$"):
            await backend.put(slot("a"), bytes(2_000_000), LATER)


async def test_a_full_etcd_says_what_to_do() -> None:
    with started("--quota-backend-bytes=65536") as full:
        async with opened(full) as backend:
            with pytest.raises(RetryLater, match="space exceeded; its quota is used up: compact") as caught:
                for number in range(100):
                    await backend.put(slot(number), bytes(20_000), LATER)
            assert caught.value.seconds == 60


async def test_a_server_that_is_not_etcd_is_named() -> None:
    async def web(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot found")
        await writer.drain()

    async with impostor(web) as url, backend_at(url) as backend:
        with pytest.raises(StoreError) as caught:
            await backend.get(slot("a"))
    assert str(caught.value) == (
        f"{url} refused kv/txn: HTTP 404 b'Not found'; is this the client port of etcd 3.4 or newer?"
    )


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"kvs": 7}', b'{"kvs": [{}]}', b'{"kvs": [{"key": "%"}]}', b"\xff"]
)
async def test_an_answer_that_is_no_message_is_an_error(body: bytes) -> None:
    async def odd(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()

    async with impostor(odd) as url, backend_at(url) as backend:
        with pytest.raises(ConnectionError, match="which is not etcd"):
            await anext(backend.fetch([slot(number) for number in range(20)]))


@pytest.mark.parametrize("endless", [b"/v3/kv/", b"/v3/watch"], ids=["answer", "watch"])
async def test_an_endless_answer_is_cut(endless: bytes, hasty: None) -> None:
    """Memory is bounded; a watch gets a second chance and no more."""
    sent = 0

    async def flood(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if endless not in request:
            writer.write(b'{"header":{"revision":"5"}}')
            return
        while sent < 1 << 30:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async with impostor(flood) as url, backend_at(url) as backend:
        with pytest.raises(TooMuch, match="of more than 4194304 bytes"):
            async for _ in backend.follow([slot("a")]):
                pass
    assert sent < 32 << 20


async def test_an_answer_that_trickles_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_etcd_gateway, "WHOLE", 0.5)

    async def trickle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with impostor(trickle) as url, backend_at(url) as backend:
        with pytest.raises(ConnectionError, match="no answer within"):
            await backend.get(slot("a"))


async def test_a_watch_that_always_ends_at_once_is_no_storm(hasty: None) -> None:
    """A proxy may cut every watch; after the patience is over it is an error."""
    watches = 0

    async def cutting(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal watches
        body = b'{"header":{"revision":"5"}}'
        if b"/v3/watch" in request:
            watches += 1
            body = b'{"result":{"header":{"revision":"5"},"created":true}}\n'
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()

    async with impostor(cutting) as url, backend_at(url) as backend:
        with pytest.raises(ConnectionError, match="the watch ended"):
            async for _ in backend.follow([slot("a")]):
                pass
    assert 2 <= watches < 20
