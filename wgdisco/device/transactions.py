"""What is under way on a port: a request is sent again until its answer comes, from where it may come (RFC 8489)."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from wgdisco.endpoint import Address, Endpoint
from wgdisco.stun import Attribute, Message, Type

__all__ = ["WAITS", "Arrival", "Expected", "Questions", "Refused", "Transactions"]

T = TypeVar("T")

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
    """The STUN transactions of one port."""

    def __init__(self) -> None:
        self._pending: dict[bytes, tuple[Expected, asyncio.Future[tuple[Message, Arrival]]]] = {}

    async def run(
        self, server: Endpoint, expected: Expected, send: Callable[[], None], waits: Sequence[float]
    ) -> tuple[Message, Arrival]:
        """Call `send` until the answer comes, waiting as `waits` says; raises what Port.transact does."""
        answer: asyncio.Future[tuple[Message, Arrival]] = asyncio.get_running_loop().create_future()
        self._pending[expected.transaction] = expected, answer
        try:
            message, arrival = await _persist(server, answer, send, waits)
        finally:
            self._pending.pop(expected.transaction, None)
        if message.type is Type.ERROR:
            raise Refused(server, message)
        return message, arrival

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


@dataclass(eq=False, slots=True)
class _Question:
    """What was asked of a node: `read` makes an answer of a datagram, or None when it is none."""

    node: Endpoint
    read: Callable[[bytes], Any]
    answer: asyncio.Future[Any]


class Questions:
    """Questions of one port in another protocol than STUN; `awaiting(True)` is called before the first one is sent.

    A datagram is looked at only when it comes from a node that was asked.
    """

    def __init__(self, awaiting: Callable[[bool], None]) -> None:
        self._awaiting = awaiting
        self._open: list[_Question] = []

    async def run(
        self, node: Endpoint, read: Callable[[bytes], T | None], send: Callable[[], None], waits: Sequence[float]
    ) -> T:
        """Call `send` until `read` makes something of a datagram from the node; raises what Port.ask does."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        question = _Question(node, read, answer)
        if not self._open:
            self._awaiting(True)
        self._open.append(question)
        try:
            return await _persist(node, answer, send, waits)
        finally:
            self._open.remove(question)
            if not self._open:
                self._awaiting(False)

    def hear(self, data: bytes, source: Endpoint) -> bool:
        """Take a datagram; False when it answers nothing."""
        for question in self._open:
            if question.node == source and not question.answer.done():
                answer = question.read(data)
                if answer is not None:
                    question.answer.set_result(answer)
                    return True
        return False

    def abort(self) -> None:
        """End all of them with ConnectionAbortedError."""
        for question in self._open:
            question.answer.cancel()


async def _persist(server: Endpoint, answer: asyncio.Future[T], send: Callable[[], None], waits: Sequence[float]) -> T:
    """Call `send` until the answer is there, waiting as `waits` says."""
    for wait in waits:
        send()
        if (await asyncio.wait([answer], timeout=wait))[0]:
            if answer.cancelled():
                raise ConnectionAbortedError(errno.ECONNABORTED, f"the port was closed before {server} answered")
            return answer.result()
    raise TimeoutError(f"no answer from {server} within {sum(waits):g} s")
