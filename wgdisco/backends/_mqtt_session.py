"""One connection to an MQTT broker, made when needed and anew when lost, and what listens on it."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from wgdisco.backends._mqtt_inbox import Inbox, Refused

if TYPE_CHECKING:
    import aiomqtt

__all__ = ["Session"]

GOODBYE = 0.3  # seconds for what is only politeness
TOGETHER = 100  # topics of one subscription; brokers queue no more than some hundred retained messages
BARRIER = "barrier/"  # below the prefix: topics on which clients talk to themselves

T = TypeVar("T")


class Session:
    """Publishes and listens over one connection; raises ConnectionError or Refused, which name the broker."""

    def __init__(self, broker: str, prefix: str, make: Callable[[], aiomqtt.Client]) -> None:
        """Connect to nothing yet; `make` makes a client that is not connected."""
        self._broker, self._prefix, self._make = broker, prefix, make
        self._connecting: asyncio.Task[aiomqtt.Client] | None = None
        self._client: aiomqtt.Client | None = None
        self._reader: asyncio.Task[None] | None = None
        self._inboxes: set[Inbox] = set()
        self._barriers: dict[str, Inbox] = {}

    async def publish(self, topic: str, payload: bytes, seconds: int) -> None:
        """Have a message kept for so many seconds, b'' to have none kept. That it was allowed is not said."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho is half typed
        if payload:
            properties.MessageExpiryInterval = seconds
        await self._do(lambda client: client.publish(topic, payload, qos=1, retain=True, properties=properties))

    @asynccontextmanager
    async def listening(self, topics: Sequence[str]) -> AsyncIterator[Inbox]:
        """An inbox for these topics, what is retained included; a message to ourselves marks the end of that.

        A subscription without retained message is answered by silence, so only the barrier tells nothing from not yet.
        """
        barrier = f"{self._prefix}{BARRIER}{secrets.token_hex(8)}"
        inbox = Inbox(
            topics, f"{self._broker}: our own message to {barrier!r} does not come back; the ACL has to allow it"
        )
        self._inboxes.add(inbox)
        self._barriers[barrier] = inbox
        try:
            wanted = [*topics, barrier]
            for start in range(0, len(wanted), TOGETHER):
                await self._subscribe(wanted[start : start + TOGETHER])
            await self._do(lambda client: client.publish(barrier, b"\0", qos=1))
            yield inbox
        finally:
            self._inboxes.discard(inbox)
            del self._barriers[barrier]
            await self._unsubscribe([barrier, *(topic for topic in topics if not self._wanted(topic))])

    async def close(self) -> None:
        """Say goodbye, and cut the connection if that is not answered."""
        for task in (self._connecting, self._reader):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        client, self._client, self._connecting = self._client, None, None
        if client is not None:
            await _goodbye(client)

    def _wanted(self, topic: str) -> bool:
        return any(topic in inbox.topics for inbox in self._inboxes)

    async def _subscribe(self, topics: Sequence[str]) -> None:
        codes = await self._do(lambda client: client.subscribe([(topic, 1) for topic in topics]))
        for topic, code in zip(topics, codes, strict=False):
            if int(getattr(code, "value", code)) >= 128:  # type: ignore[call-overload]  # an int or paho's; MQTT 5 section 3.9.3
                raise Refused(f"{self._broker} does not let us subscribe to {topic!r}: {code}; its ACL has to")

    async def _unsubscribe(self, topics: list[str]) -> None:
        """Without patience: nobody listens any more, so what still comes is dropped."""
        import aiomqtt

        client = self._client
        if client is not None and self._reader is not None and not self._reader.done():
            for start in range(0, len(topics), TOGETHER):
                with suppress(aiomqtt.MqttError):
                    await client.unsubscribe(topics[start : start + TOGETHER], timeout=GOODBYE)

    async def _do(self, work: Callable[[aiomqtt.Client], Coroutine[Any, Any, T]]) -> T:
        """One exchange with the broker; after one that fails the connection is not used again."""
        import aiomqtt

        client = await self._connected()
        assert self._reader is not None
        task = asyncio.ensure_future(work(client))
        try:
            # the library does not end a call whose connection is lost
            await asyncio.wait({task, self._reader}, return_when=asyncio.FIRST_COMPLETED)
            return task.result()
        except asyncio.InvalidStateError as error:
            raise ConnectionError(f"{self._broker}: the connection is lost") from error
        except (aiomqtt.MqttError, OSError, ValueError) as error:  # the last two from a socket that was just closed
            self._drop(client, error)
            raise ConnectionError(f"{self._broker}: {error}") from error
        finally:
            task.cancel()

    def _drop(self, client: aiomqtt.Client, error: Exception) -> None:
        """Use this connection no more."""
        if client is self._client:
            self._connecting = self._client = None
            if self._reader is not None:
                self._reader.cancel()
            self._fail(error)
            _cut(client)

    def _fail(self, error: BaseException) -> None:
        for inbox in self._inboxes:
            inbox.fail(ConnectionError(f"{self._broker}: the connection is lost: {error}"))

    async def _connected(self) -> aiomqtt.Client:
        """The client; all who need it share one attempt, and a caller that is cancelled does not end it."""
        if self._connecting is None or (self._connecting.done() and self._lost(self._connecting)):
            self._connecting = asyncio.ensure_future(self._connect())
        return await asyncio.shield(self._connecting)

    def _lost(self, connecting: asyncio.Task[aiomqtt.Client]) -> bool:
        return _failed(connecting) or self._reader is None or self._reader.done()

    async def _connect(self) -> aiomqtt.Client:
        import aiomqtt

        client = self._make()
        try:
            await client.__aenter__()
        except aiomqtt.exceptions.MqttConnectError as error:
            raise Refused(f"{self._broker} refused us: {error}; correct user and password") from error
        except aiomqtt.MqttError as error:
            _cut(client)
            raise ConnectionError(f"{self._broker}: {error}") from error
        self._client, self._reader = client, asyncio.ensure_future(self._read(client))
        return client

    async def _read(self, client: aiomqtt.Client) -> None:
        """Hand out what comes, until the connection is lost."""
        import aiomqtt

        try:
            async for message in client.messages:
                if isinstance(message.payload, bytes):
                    self._hand_out(message.topic.value, message.payload)
        except aiomqtt.MqttError as error:
            self._fail(error.__cause__ or error)

    def _hand_out(self, topic: str, payload: bytes) -> None:
        if topic in self._barriers:
            self._barriers[topic].complete()
        for inbox in self._inboxes:
            if topic in inbox.topics:
                inbox.deliver(topic, payload)


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None


async def _goodbye(client: aiomqtt.Client) -> None:
    import aiomqtt

    client.timeout = GOODBYE
    try:
        await client.__aexit__(None, None, None)
    except aiomqtt.MqttError:
        _cut(client)
        await asyncio.sleep(0)


def _cut(client: aiomqtt.Client) -> None:
    """Break the connection, which the client then notices by itself."""
    broken = client._client.socket()  # noqa: SLF001 - aiomqtt has no other way to give up a connection
    if broken is not None:
        with suppress(OSError):
            cast("socket.socket", broken).shutdown(socket.SHUT_RDWR)
