"""STUN transactions under way: a request is sent again until its answer comes, from where it may come (RFC 8489)."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from wgdisco.endpoint import Address, Endpoint
from wgdisco.stun import Attribute, Message, Type

__all__ = ["WAITS", "Arrival", "Expected", "Refused", "Transactions"]

WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait after each transmission of a request (RFC 8489 section 6.2.1, ended earlier)."""


class Arrival(NamedTuple):
    """Where a message came from, and to which of our addresses."""

    source: Endpoint
    local: Address


class Refused(ConnectionError):  # noqa: N818 - named after what the server did
    """The server understood us and answered with an error; `answer` is what it said."""

    def __init__(self, server: Endpoint, answer: Message) -> None:
        code, reason = answer.attributes.get(Attribute.ERROR_CODE, (0, "no reason given"))
        super().__init__(f"{server} answered with error {code}: {reason!r}")
        self.answer = answer


class Expected(NamedTuple):
    """What an answer has to be: of this transaction (12 bytes), from one of `origins`, signed if there is a `key`."""

    transaction: bytes
    origins: Collection[Endpoint]
    key: bytes | None

    def fits(self, message: Message, source: Endpoint) -> bool:
        """Whether an answer counts; one with an attribute beyond us does not (RFC 8489 section 6.3.3)."""
        signed = self.key is None or message.signed_by(self.key)
        return source in self.origins and signed and not message.unknown


class Transactions:
    """The transactions of one port."""

    def __init__(self) -> None:
        self._pending: dict[bytes, tuple[Expected, asyncio.Future[tuple[Message, Arrival]]]] = {}

    async def run(
        self, server: Endpoint, expected: Expected, send: Callable[[], None], waits: Sequence[float]
    ) -> tuple[Message, Arrival]:
        """Call `send` until the answer comes, waiting as `waits` says; raises what Port.transact does."""
        answer: asyncio.Future[tuple[Message, Arrival]] = asyncio.get_running_loop().create_future()
        self._pending[expected.transaction] = expected, answer
        try:
            for wait in waits:
                send()
                if (await asyncio.wait([answer], timeout=wait))[0]:
                    return _judged(server, answer)
        finally:
            self._pending.pop(expected.transaction, None)
        raise TimeoutError(f"no answer from {server} within {sum(waits):g} s")

    def hear(self, message: Message, arrival: Arrival) -> bool:
        """Take a response; False when nobody waits for it."""
        expected, answer = self._pending.get(message.transaction, (None, None))
        if expected is None or answer is None or answer.done() or not expected.fits(message, arrival.source):
            return False
        answer.set_result((message, arrival))
        return True

    def abort(self) -> None:
        """End all of them with ConnectionAbortedError."""
        for _, answer in self._pending.values():
            answer.cancel()


def _judged(server: Endpoint, answer: asyncio.Future[tuple[Message, Arrival]]) -> tuple[Message, Arrival]:
    if answer.cancelled():
        raise ConnectionAbortedError(errno.ECONNABORTED, f"the port was closed before {server} answered")
    message, arrival = answer.result()
    if message.type is Type.ERROR:
        raise Refused(server, message)
    return message, arrival
