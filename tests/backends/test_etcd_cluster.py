"""Three members of etcd, of which some are killed, frozen, or cut off: nothing acknowledged is lost, no watch dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.backends.common import slot
from tests.backends.etcdclient import LATER, following, opened
from tests.backends.etcdserver import Cluster, cluster
from wgdisco.backends import _etcd_gateway, _etcd_view
from wgdisco.backends.etcd import Etcd


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def healthy(running: Cluster) -> Iterator[Cluster]:
    """The cluster with all its members well, before and after."""
    running.heal()
    yield running
    running.heal()


async def write(backend: Etcd, acknowledged: list[str], stop: asyncio.Event) -> None:
    """Put one slot after the other every 30 ms; a put that fails is tried again, as the core does."""
    number = 0
    while not stop.is_set():
        try:
            async with asyncio.timeout(5):
                await backend.put(slot(number), b"%d" % number, LATER)
        except (ConnectionError, TimeoutError):
            continue
        acknowledged.append(str(number))
        number += 1
        await asyncio.sleep(0.03)


@pytest.mark.parametrize("trouble", ["kill", "freeze"])
async def test_losing_the_leader_loses_neither_records_nor_the_watch(healthy: Cluster, trouble: str) -> None:
    """Everybody talks to the leader when it goes: every acknowledged record is there, and was pushed."""
    members = healthy.leader_first()
    names = [str(number) for number in range(1000)]
    acknowledged, stop = [], asyncio.Event()
    async with (
        opened(*members) as writer,
        opened(*members, prefix=writer.prefix, heartbeat=1.0) as reader,
        following(reader, *names) as follower,
    ):
        writing = asyncio.ensure_future(write(writer, acknowledged, stop))
        while len(acknowledged) < 20:
            await asyncio.sleep(0.01)
        getattr(members[0], trouble)()
        before = len(acknowledged)
        async with asyncio.timeout(15):
            while len(acknowledged) < before + 20:
                await asyncio.sleep(0.01)
        stop.set()
        await writing
        await follower.until(**{name: name.encode() for name in acknowledged})
        left = [values async for _, values in reader.fetch([slot(name) for name in acknowledged])]
        assert left == [[name.encode()] for name in acknowledged]
        # the member that comes back agrees
        getattr(members[0], "thaw" if trouble == "freeze" else "start")()
        healthy.heal()
        async with opened(members[0], prefix=writer.prefix) as late:
            assert [values async for _, values in late.fetch([slot(name) for name in acknowledged])] == left


async def test_a_compaction_while_the_watched_member_is_frozen_is_survived(healthy: Cluster) -> None:
    """What was missed has been compacted away at the members that are left, so all is read anew there."""
    members = list(reversed(healthy.leader_first()))
    async with (
        opened(*members, heartbeat=1.0) as reader,
        opened(*members[1:], prefix=reader.prefix) as writer,
        following(reader, "a", "b") as follower,
    ):
        await follower.until(a=None, b=None)
        await writer.put(slot("a"), b"watching", LATER)
        await follower.until(a=b"watching")
        members[0].freeze()
        for number in range(20):
            await writer.put(slot("a"), b"%d" % number, LATER)
        revision = members[1].api("kv/range", key=b"x")["header"]["revision"]
        assert "header" in members[1].api("kv/compaction", revision=revision)
        await follower.until(a=b"19")
        await writer.put(slot("b"), b"live", LATER)
        await follower.until(b=b"live")


@pytest.mark.parametrize("trouble", ["kill", "freeze"])
async def test_without_quorum_reads_go_on_and_a_watch_says_that_it_is_dead(
    healthy: Cluster, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """The member that is left would keep a watch as if nothing ever happened; but it has no leader, and says so."""
    monkeypatch.setattr(_etcd_gateway, "REQUEST", 0.5)
    monkeypatch.setattr(_etcd_view, "PATIENCE", 2.0)
    *lost, left = healthy.leader_first()
    async with opened(left, *lost) as backend, following(backend, "a") as follower:
        await follower.until(a=None)
        await backend.put(slot("a"), b"1", LATER)
        await follower.until(a=b"1")
        for each in lost:
            getattr(each, trouble)()
        async with asyncio.timeout(15):
            await asyncio.wait({follower.task})
        with pytest.raises(ConnectionError, match=f"^no endpoint keeps a watch: .*{left.url}: etcdserver: no leader"):
            follower.task.result()
        async with asyncio.timeout(4):
            assert await backend.get(slot("a")) == [b"1"]
            assert await anext(backend.fetch([slot("a"), *map(slot, range(20))])) == (slot("a"), [b"1"])
        with pytest.raises(ConnectionError, match=r"^no endpoint can serve: "):
            await backend.put(slot("a"), b"2", LATER)
        healthy.heal()
        await backend.put(slot("a"), b"3", LATER)
        assert await backend.get(slot("a")) == [b"3"]
