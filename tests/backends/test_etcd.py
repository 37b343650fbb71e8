"""etcd, against real servers of two versions: leases, writing, reading, following."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.backends.common import slot
from tests.backends.etcdclient import LATER, asked, backend_at, following, impostor, new_prefix, opened
from tests.backends.etcdserver import VERSIONS, EtcdServer, started
from wgdisco.backend import Backend
from wgdisco.backends import _etcd_gateway, _etcd_leases, _etcd_view
from wgdisco.backends.etcd import Etcd
from wgdisco.testing import BackendContract


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[EtcdServer]:
    """A server of each version; tests keep apart by prefix."""
    with started(kind=VERSIONS[request.param]) as running:
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


class TestContract(BackendContract):
    """What every backend has to do, against both versions."""

    @pytest.fixture(autouse=True)
    def _server(self, server: EtcdServer) -> None:
        self.control, self.prefix = server, new_prefix()

    def backend(self) -> Backend:
        return Etcd(endpoints=[self.control.url], prefix=self.prefix)


# leases


async def test_a_key_keeps_a_lease_when_it_is_replaced(server: EtcdServer) -> None:
    """A put without lease would detach the key, and it would never expire."""
    async with opened(server) as backend:
        for blob in (b"first", b"second"):
            await backend.put(slot("a"), blob, LATER)
            assert int(server.key(f"{backend.prefix}{slot('a').text}").get("lease", 0)) > 0


async def test_a_hundred_slots_share_one_lease(server: EtcdServer) -> None:
    async with opened(server) as backend:
        before = server.leases()
        await asyncio.gather(*(backend.put(slot(number), b"x", LATER) for number in range(100)))
        assert len(server.leases() - before) == 1


async def test_a_lease_that_was_replaced_is_revoked(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_etcd_leases, "LONGEST_SHARING", 0.0)
    async with opened(server) as backend:
        before = server.leases()
        for blob in (b"1", b"2", b"3"):
            await backend.put(slot("a"), blob, LATER)
        assert len(server.leases() - before) == 1
        assert await backend.get(slot("a")) == [b"3"]


async def test_a_lease_is_not_revoked_while_another_slot_hangs_on_it(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server) as backend:
        await asyncio.gather(backend.put(slot("a"), b"a", LATER), backend.put(slot("b"), b"b", LATER))
        monkeypatch.setattr(_etcd_leases, "LONGEST_SHARING", 0.0)
        backend._leases._current.clear()
        await backend.put(slot("a"), b"a2", LATER)
        assert await backend.get(slot("b")) == [b"b"]


async def test_removing_the_last_slot_revokes_a_lease_that_nobody_joins_any_more(server: EtcdServer) -> None:
    async with opened(server) as backend:
        before = server.leases()
        await backend.put(slot("a"), b"a", LATER)
        backend._leases._current.clear()
        await backend.remove(slot("a"))
        assert server.leases() == before


async def test_a_record_expires_and_followers_learn_it(server: EtcdServer) -> None:
    async with opened(server) as backend, following(backend, "a") as follower:
        await backend.put(slot("a"), b"soon gone", 1)
        await follower.until(a=b"soon gone")
        await follower.until(a=None)
        assert await backend.get(slot("a")) == []


async def test_a_lease_that_etcd_lost_is_replaced(server: EtcdServer) -> None:
    """After a suspended machine woke up, or etcd was restored, the lease at hand is unknown there."""
    async with opened(server) as backend:
        before = server.leases()
        await backend.put(slot("a"), b"1", LATER)
        for each in server.leases() - before:
            server.api("lease/revoke", ID=each)
        await backend.put(slot("a"), b"2", LATER)
        assert await backend.get(slot("a")) == [b"2"]


# writing


async def test_a_delayed_put_does_not_come_back_over_a_newer_one(debian: EtcdServer, hasty: None) -> None:
    """A frozen member may carry out a put, long after it was repeated at another one and replaced."""
    thawed, done = asyncio.Event(), asyncio.Event()

    async def frozen(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/v3/kv/txn" in request:
            await thawed.wait()
        back, forth = await asyncio.open_connection("127.0.0.1", debian.port)
        forth.write(request)
        answer = await back.read(65536)
        forth.close()
        if b"/v3/kv/txn" in request:
            assert answer.startswith(b"HTTP/1.1 200")
            done.set()
        writer.write(answer)
        await writer.drain()

    async with impostor(frozen) as url, backend_at(url, debian.url) as backend:
        await backend.put(slot("a"), b"old", LATER)
        await backend.put(slot("a"), b"new", LATER)
        thawed.set()
        async with asyncio.timeout(5):
            await done.wait()
        assert await backend.get(slot("a")) == [b"new"]


async def test_two_writers_of_one_slot_do_not_stop_each_other(server: EtcdServer) -> None:
    prefix = new_prefix()
    async with opened(server, prefix=prefix) as one, opened(server, prefix=prefix) as other:
        for each, blob in ((one, b"1"), (other, b"2"), (one, b"3")):
            await each.put(slot("a"), blob, LATER)
            assert await other.get(slot("a")) == [blob]


# reading


async def test_few_slots_are_asked_for_by_name_in_one_request(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server) as backend:
        await backend.put(slot(3), b"three", LATER)
        paths = asked(backend, monkeypatch)
        answers = {place: values async for place, values in backend.fetch([slot(number) for number in range(15)])}
        assert answers == {slot(number): [b"three"] if number == 3 else [] for number in range(15)}
        assert paths == ["kv/txn"]


async def test_many_slots_are_one_range_that_tells_nothing(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(server) as backend:
        await backend.put(slot(3), b"three", LATER)
        paths = asked(backend, monkeypatch)
        answers = {place: values async for place, values in backend.fetch([slot(number) for number in range(300)])}
        assert answers == {slot(number): [b"three"] if number == 3 else [] for number in range(300)}
        assert paths == ["kv/range"]


async def test_in_a_crowd_many_slots_are_asked_for_by_name(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_etcd_view, "MOST", 5)
    async with opened(server) as backend:
        await asyncio.gather(*(backend.put(slot(number), b"%d" % number, LATER) for number in range(300)))
        answers = [values async for _, values in backend.fetch([slot(number) for number in range(300)])]
        assert answers == [[b"%d" % number] for number in range(300)]


async def test_in_a_crowd_a_follower_misses_nothing(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_etcd_view, "MOST", 5)
    async with opened(server) as backend:
        await asyncio.gather(*(backend.put(slot(number), b"1", LATER) for number in range(10)))
        async with following(backend, *map(str, range(10)), "new") as follower:
            await follower.until(**{str(number): b"1" for number in range(10)}, new=None)
            await backend.put(slot("new"), b"here", LATER)
            await follower.until(new=b"here")


async def test_somebody_elses_huge_values_do_not_hide_ours(debian: EtcdServer) -> None:
    """Three values of 1.4 MB are more than is read at once, even by name when they lie in slots that we ask for."""
    async with opened(debian) as backend:
        evil = [slot(f"evil {number}") for number in range(3)]
        for place in evil:
            debian.api("kv/put", key=f"{backend.prefix}{place.text}".encode(), value=bytes(1_400_000))
        await backend.put(slot("a"), b"ours", LATER)
        wanted = [*evil, slot("a"), *map(slot, range(20))]
        answers = {place: values async for place, values in backend.fetch(wanted)}
        assert answers[slot("a")] == [b"ours"]
        assert all(answers[place] == [bytes(1_400_000)] for place in evil)


async def test_an_empty_value_is_a_value(server: EtcdServer) -> None:
    """What is empty is absent in the gateway's JSON."""
    async with opened(server) as backend, following(backend, "a") as follower:
        await backend.put(slot("a"), b"", LATER)
        assert await backend.get(slot("a")) == [b""]
        await follower.until(a=b"")


# following


async def test_following_shows_what_is_there_then_every_change(server: EtcdServer) -> None:
    async with opened(server) as backend:
        await backend.put(slot("a"), b"1", LATER)
        async with following(backend, "a", "b") as follower:
            await follower.until(a=b"1", b=None)
            await backend.put(slot("a"), b"2", LATER)
            await backend.put(slot("b"), b"1", LATER)
            await follower.until(a=b"2", b=b"1")
            await backend.remove(slot("a"))
            await follower.until(a=None)


async def test_following_ignores_what_else_lies_under_the_prefix(server: EtcdServer) -> None:
    async with opened(server) as backend, following(backend, "a") as follower:
        await follower.until(a=None)
        for number in range(20):
            await backend.put(slot(number), b"noise", LATER)
        await backend.put(slot("a"), b"signal", LATER)
        await follower.until(a=b"signal")
        assert follower.count == 2


async def test_a_silent_watch_is_attached_anew_and_shows_nothing_twice(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server, heartbeat=0.1) as backend, following(backend, "a") as follower:
        attached: list[float] = []
        attach = backend._gateway._attach

        async def noting(*arguments: object) -> object:
            attached.append(time.monotonic())
            return await attach(*arguments)

        monkeypatch.setattr(backend._gateway, "_attach", noting)
        await follower.until(a=None)
        while len(attached) < 4:
            await asyncio.sleep(0.05)
        for blob in (b"1", b"2"):
            await backend.put(slot("a"), blob, LATER)
            await follower.until(a=blob)
        seen = len(attached)
        while len(attached) < seen + 3:
            await asyncio.sleep(0.05)
        assert follower.count == 3


async def test_a_compaction_does_not_silence_a_watch(server: EtcdServer) -> None:
    """etcd cancels a watch from a compacted revision, but leaves the stream open and silent."""
    async with opened(server, heartbeat=0.3) as backend, following(backend, "a") as follower:
        await follower.until(a=None)
        await backend.put(slot("a"), b"before", LATER)
        await follower.until(a=b"before")
        for number in range(5):
            last = server.api("kv/put", key=b"/elsewhere", value=b"%d" % number)["header"]["revision"]
        server.api("kv/compaction", revision=last, physical=True)
        await asyncio.sleep(0.5)
        await backend.put(slot("a"), b"after", LATER)
        await follower.until(a=b"after")


async def test_a_value_too_large_for_a_line_does_not_end_a_watch(
    debian: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_etcd_gateway, "BIGGEST", 100_000)
    async with opened(debian) as backend, following(backend, "a") as follower:
        await follower.until(a=None)
        debian.api("kv/put", key=f"{backend.prefix}x".encode(), value=bytes(1_000_000))
        await backend.put(slot("a"), b"still here", LATER)
        await follower.until(a=b"still here")
