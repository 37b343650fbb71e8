"""MQTT, against mosquitto: the contract, expiry, pushing, sharing one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from tests.backends.common import slot
from tests.backends.mqttserver import Mosquitto, opened
from wgdisco.backend import Backend
from wgdisco.backends._mqtt_inbox import ANSWER
from wgdisco.backends.mqtt import MQTT
from wgdisco.testing import BackendContract


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker that everybody may use."""
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


class TestContract(BackendContract):
    """What every backend has to do."""

    @pytest.fixture(autouse=True)
    def _server(self, server: Mosquitto) -> None:
        self.control: Mosquitto = server

    def backend(self) -> Backend:
        return MQTT(host="127.0.0.1", port=self.control.port)


# what lies on the broker


async def test_a_record_expires(server: Mosquitto) -> None:
    async with opened(server) as backend:
        await backend.put(slot("soon gone"), b"x", 1)
        while await backend.get(slot("soon gone")):
            await asyncio.sleep(0.1)


async def test_nothing_is_known_without_waiting(server: Mosquitto) -> None:
    """The barrier comes back at once, so an empty slot needs no patience."""
    async with asyncio.timeout(ANSWER), opened(server) as backend:
        for number in range(20):
            assert await backend.get(slot(f"nothing {number}")) == []


async def test_three_hundred_slots_in_one_fetch(server: Mosquitto) -> None:
    """More than a broker queues of retained messages for one client at a time."""
    async with opened(server) as backend:
        await asyncio.gather(*(backend.put(slot(number), b"%d" % number, 600) for number in range(300)))
        found = {each.id: values async for each, values in backend.fetch([slot(number) for number in range(400)])}
        assert found == {slot(number).id: [b"%d" % number] if number < 300 else [] for number in range(400)}


async def test_prefixes_keep_apart(server: Mosquitto) -> None:
    async with opened(server, prefix="one/") as one, opened(server, prefix="two/deep/") as two:
        await one.put(slot("prefix"), b"x", 600)
        assert await two.get(slot("prefix")) == []
        assert await one.get(slot("prefix")) == [b"x"]


async def test_what_is_too_large_for_a_record_is_not_even_sent(server: Mosquitto) -> None:
    async with opened(server) as backend:
        topic = f"wgdisco/{slot('huge').text}"
        await backend._session.publish(topic, bytes(20_000), 600)
        assert await backend.get(slot("huge")) == []


# following


async def test_followers_learn_of_a_removal(server: Mosquitto) -> None:
    async with opened(server) as backend, aclosing(backend.watch(slot("removed"))) as changes:
        await backend.put(slot("removed"), b"x", 600)
        assert await anext(changes) == [b"x"]
        await backend.remove(slot("removed"))
        assert await anext(changes) == []


async def test_the_same_again_is_no_news(server: Mosquitto) -> None:
    async with opened(server) as backend, aclosing(backend.watch(slot("again"))) as changes:
        await backend.put(slot("again"), b"x", 600)
        assert await anext(changes) == [b"x"]
        waiting = asyncio.ensure_future(anext(changes))
        for blob in (b"x", b"y"):
            await backend.put(slot("again"), blob, 600)
        assert await waiting == [b"y"]


async def test_reading_a_slot_does_not_end_following_it(server: Mosquitto) -> None:
    """Both share one subscription, which the reader must leave alone."""
    async with opened(server) as backend, opened(server) as writer:  # noqa: SIM117 - one line would be too long
        async with aclosing(backend.watch(slot("shared"))) as changes:
            assert await anext(changes) == []
            assert await backend.get(slot("shared")) == []
            await writer.put(slot("shared"), b"news", 600)
            assert await anext(changes) == [b"news"]


async def test_a_follower_leaves_no_subscription_behind(server: Mosquitto) -> None:
    async with opened(server) as backend, opened(server) as writer:
        async with aclosing(backend.watch(slot("left"))) as changes:
            await anext(changes)
        delivered: list[str] = []
        backend._session._hand_out = lambda topic, _: delivered.append(topic)  # type: ignore[method-assign] # a spy
        await writer.put(slot("left"), b"x", 600)
        await backend._session.publish("elsewhere", b"", 0)
        assert delivered == []


async def test_a_flood_leaves_the_newest_alone_in_memory(server: Mosquitto) -> None:
    """Messages that nobody took yet replace each other."""
    async with opened(server) as backend, opened(server) as writer:
        topic = f"wgdisco/{slot('flood').text}"
        async with backend._session.listening([topic]) as inbox:
            await inbox.first()
            for number in range(300):
                await writer._session.publish(topic, b"%d" % number, 600)
            while (news := await inbox.news()) != {topic: b"299"}:
                assert len(news) == 1
