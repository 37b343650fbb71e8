"""What the tests of etcd talk to it with: opened backends, followers in the background, servers that misbehave."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

import pytest

from tests.backends.common import opening, slot
from tests.backends.etcdserver import EtcdServer
from wgdisco.backend import Slot
from wgdisco.backends.etcd import Etcd

__all__ = ["LATER", "Follower", "asked", "backend_at", "following", "impostor", "new_prefix", "opened"]

LATER = 100_000  # a lifetime in seconds that no test sees the end of
COUNTER = itertools.count()


def new_prefix() -> str:
    return f"/test{next(COUNTER)}/"


def opened(*servers: EtcdServer, **options: Any) -> AbstractAsyncContextManager[Etcd]:
    """A backend for these servers, under a prefix of its own unless one is given."""
    options.setdefault("prefix", new_prefix())
    return opening(Etcd(endpoints=[each.url for each in servers], **options))


class Follower:
    """Follows slots in the background and remembers what came."""

    def __init__(self, backend: Etcd, slots: Sequence[Slot]) -> None:
        self.backend, self.slots = backend, slots
        self.now: dict[Slot, list[bytes]] = {}
        self.count = 0
        self.task = asyncio.ensure_future(self._run())
        self.came = asyncio.Event()

    async def _run(self) -> None:
        async with aclosing(self.backend.follow(self.slots)) as changes:
            async for place, values in changes:
                self.now[place] = values
                self.count += 1
                self.came.set()

    async def until(self, **expected: bytes | None) -> None:
        """Wait until the named slots hold these values; fails when following fails."""
        wanted = {slot(name): [] if value is None else [value] for name, value in expected.items()}
        async with asyncio.timeout(15):
            while any(self.now.get(place) != values for place, values in wanted.items()):
                self.came.clear()
                waiting = asyncio.ensure_future(self.came.wait())
                await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self.task.done():
                    self.task.result()


@asynccontextmanager
async def following(backend: Etcd, *names: str) -> AsyncIterator[Follower]:
    follower = Follower(backend, [slot(name) for name in names])
    try:
        yield follower
    finally:
        follower.task.cancel()
        await asyncio.gather(follower.task, return_exceptions=True)


def asked(backend: Etcd, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that a backend sends from now on."""
    paths: list[str] = []
    post = backend._gateway._post

    async def noting(endpoint: str, path: str, *rest: object) -> bytes:
        paths.append(path)
        return await post(endpoint, path, *rest)

    monkeypatch.setattr(backend._gateway, "_post", noting)
    return paths


@asynccontextmanager
async def impostor(answer: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """The URL of a server that takes one request at each connection and answers as `answer` does."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            await answer(head + await reader.readexactly(int(length[1])), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has had enough
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)


def backend_at(*urls: str) -> AbstractAsyncContextManager[Etcd]:
    return opening(Etcd(endpoints=list(urls), prefix=new_prefix()))
