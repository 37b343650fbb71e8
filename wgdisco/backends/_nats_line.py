"""One connection to a NATS server, made anew when it broke; refusals reach the caller, its end those who listen."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from wgdisco.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.kv import KeyValue

__all__ = ["TIMEOUT", "Line", "context"]

T = TypeVar("T")
TIMEOUT = 4  # seconds for an answer
PING = 10  # seconds between two pings; a server that misses two is given up
GOODBYE = 0.5  # seconds that closing may take
DAY = 86400  # seconds: no record lives longer (SPEC section 5)
LARGEST = 1024  # bytes of a value that a new bucket takes


class Line:
    """A connection and its bucket. The library's own reconnecting is off: it hides outages and loses watches."""

    def __init__(self, servers: Sequence[str], bucket: str, login: Callable[[], dict[str, Any]]) -> None:
        """`login` gives the library's options for who we are."""
        self.servers, self.bucket, self.login = servers, bucket, login
        self._client: Client | None = None
        self._bucket: KeyValue | None = None
        self._connecting = asyncio.Lock()
        self._listeners: set[Callable[[], None]] = set()
        self._asked: dict[asyncio.Future[Any], str] = {}
        self._refusals: dict[asyncio.Future[Any], Exception] = {}

    async def opened(self) -> tuple[Client, KeyValue]:
        """The connection and the bucket; raises what the library raises, of the last server tried, or StoreError."""
        async with self._connecting:
            if self._client is None or self._client.is_closed or self._bucket is None:
                await self._hang_up()
                self._client = await self._connect()
                self._bucket = await self._find_bucket(self._client)
            return self._client, self._bucket

    async def asked(self, what: str, work: Awaitable[T]) -> T:
        """Await work; raise ConnectionError at once when the connection ends, StoreError when `what` is refused.

        `what` is part of the subject. NATS tells refusals apart from answers, and the library lets who asked wait:
        without this, all of these are timeouts.
        """
        from nats.errors import NoRespondersError
        from nats.js.errors import NoStreamResponseError

        task = asyncio.ensure_future(work)
        self._asked[task] = what
        try:
            answer = await task
        except (NoRespondersError, NoStreamResponseError):
            self._bucket = None  # somebody deleted it: look again
            raise
        except asyncio.CancelledError:
            if task in self._refusals:
                raise self._refusals[task] from None
            raise
        else:
            if task in self._refusals:  # an answer to something else was quicker than the cancellation
                raise self._refusals[task]
            return answer
        finally:
            task.cancel()
            self._asked.pop(task, None)
            self._refusals.pop(task, None)

    @contextmanager
    def listening(self, told: Callable[[], None]) -> Iterator[None]:
        """Call `told` when the connection ended or something was lost."""
        self._listeners.add(told)
        try:
            yield
        finally:
            self._listeners.discard(told)

    async def close(self) -> None:
        """Hang up."""
        async with self._connecting:
            await self._hang_up()

    async def _hang_up(self) -> None:
        client, self._client, self._bucket = self._client, None, None
        if client is not None:
            await _close(client)

    async def _connect(self) -> Client:
        problem: Exception = ConnectionError("no server")
        for server in random.sample(self.servers, len(self.servers)):
            client = _client(server)
            try:
                await self._call(client, server)
            except Exception as error:  # noqa: BLE001 - raised below, when no server is left
                problem = error
            else:
                return client
        raise problem

    async def _call(self, client: Client, server: str) -> None:
        """Connect, or raise the first problem there is: the library would go on trying for two minutes."""
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def trouble(error: Exception) -> None:
            if client.is_connected or failed.done():
                await self._trouble(error)
            else:
                failed.set_exception(error)

        options = self.login() | {"error_cb": trouble, "closed_cb": self._ended, "allow_reconnect": False}
        timeout = max(1, TIMEOUT // len(self.servers))
        calling = asyncio.ensure_future(
            client.connect([server], connect_timeout=timeout, ping_interval=PING, max_outstanding_pings=1, **options)
        )
        try:
            await asyncio.wait({calling, failed}, return_when=asyncio.FIRST_COMPLETED)
            (failed if failed.done() else calling).result()
        except BaseException:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            await _close(client)
            raise
        finally:
            failed.cancel()  # from now on trouble is another matter

    async def _find_bucket(self, client: Client) -> KeyValue:
        from nats.errors import NoRespondersError
        from nats.js.api import KeyValueConfig
        from nats.js.errors import BucketNotFoundError, ServiceUnavailableError

        stream = client.jetstream(timeout=TIMEOUT)
        try:
            try:
                return await self.asked(f"KV_{self.bucket}", stream.key_value(self.bucket))
            except BucketNotFoundError:
                wanted = KeyValueConfig(
                    bucket=self.bucket, ttl=DAY, history=1, max_value_size=LARGEST, direct=True, description="wgdisco"
                )
                return await self.asked(f"KV_{self.bucket}", stream.create_key_value(wanted))
        except (NoRespondersError, ServiceUnavailableError) as error:
            raise StoreError("the server has no JetStream, which keeps records; start it with `-js`") from error

    async def _trouble(self, error: Exception) -> None:
        text = str(error).removeprefix("nats: ")
        for task, what in [*self._asked.items()]:
            if "permissions violation" in text.lower() and what.lower() in text.lower():
                self._refuse(task, StoreError(text))
        self._tell()

    async def _ended(self) -> None:
        for task in [*self._asked]:
            self._refuse(task, ConnectionError("the connection to the server ended"))
        self._tell()

    def _refuse(self, task: asyncio.Future[Any], reason: Exception) -> None:
        self._refusals[task] = reason
        task.cancel()

    def _tell(self) -> None:
        for told in self._listeners:
            told()


def context(servers: Sequence[str], ca: str, cert: str, key: str) -> ssl.SSLContext | None:
    """The TLS settings for tls:// servers, None without one; raises ConfigError for files that cannot be read."""
    if not any(server.startswith("tls://") for server in servers):
        if ca or cert or key:
            raise ConfigError(f"ca, cert and key are for TLS, and none of {', '.join(servers)} begins with tls://")
        return None
    try:
        made = ssl.create_default_context(cafile=ca or None)
        if cert:
            made.load_cert_chain(cert, key or None)
    except OSError as error:
        raise ConfigError(f"cannot use ca {ca!r}, cert {cert!r}, key {key!r}: {error}") from error
    return made


async def _close(client: Client) -> None:
    """Close what may be half dead, and would wait for the rest for ever."""
    with suppress(Exception):
        async with asyncio.timeout(GOODBYE):
            await client.close()


def _client(server: str) -> Client:
    """A client that tells nothing to a tls:// server that offers no TLS; the library itself would go on in plain."""
    from nats.aio.client import Client

    class Wary(Client):
        def _connect_command(self) -> bytes:
            if server.startswith("tls://") and not self._server_info.get("tls_required"):
                raise ConnectionError(f"{server!r} offers no TLS; expected it because of tls://, so nothing was said")
            return super()._connect_command()

    return Wary()
