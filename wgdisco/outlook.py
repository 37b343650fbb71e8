"""What is known of one peer at any moment: its freshest record, what of it may be tried, what the checks said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from wgdisco.checks import Checker, Prober
from wgdisco.connect import PUNCH_TTLS, UNKNOWN, impossible, order
from wgdisco.endpoint import Endpoint
from wgdisco.link import Link
from wgdisco.policy import Ground, supposed, tryable
from wgdisco.record import Candidate, Kind, Record
from wgdisco.search import Finding

__all__ = ["Ours", "Outlook", "nat_of"]


def nat_of(record: Record) -> Sequence[str]:
    """Mapping and filtering of the node that speaks, in RFC 5780's names, or unknown."""
    nat = record.hints.get("nat")
    if isinstance(nat, list | tuple) and len(nat) == 2 and all(isinstance(part, str) for part in nat):
        return nat
    return UNKNOWN


@dataclass
class Ours:
    """What has to be known of our own side, as of now.

    `ground` is what candidates are judged against, `candidates` and `nat` what we published, at `issued` (milliseconds,
    0 before); nothing is tried before `ready` is set, since we have to know where we are. `doubt` is called when a path
    died and perhaps it was our end of it that moved. What was issued after `latest` (milliseconds) was said by a clock
    that was ahead, and found while ours was.
    """

    ground: Callable[[], Ground]
    candidates: Callable[[], Sequence[Candidate]]
    nat: Callable[[], Sequence[str]]
    issued: Callable[[], int] = lambda: 0
    behind_nat: Callable[[], bool] = lambda: True
    doubt: Callable[[], None] = lambda: None
    latest: Callable[[], float] = lambda: inf
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Outlook:
    """Takes the news of one peer; `wait` ends when there are some.

    `latest` is its freshest record, `moved` says that our own side changed, `heard` where an authentic check came from.
    `supposed` are endpoints that only checks may be sent to. `skipped` are candidates of the record that are not tried,
    with the reason; `results` what checks said of the others: the round trip in seconds or None, and when that was
    (unix seconds). `verdict` says why it cannot work.
    """

    def __init__(self, link: Link, ours: Ours, say: Callable[[str], None], checker: Checker | None = None) -> None:
        self.link, self.ours, self.say, self.checker = link, ours, say, checker
        self.latest: Finding | None = None
        self.moved = False
        self.heard: Endpoint | None = None
        self.worked: Endpoint | None = None
        self.supposed: list[Endpoint] = []
        self.skipped: list[tuple[Candidate, str]] = []
        self.results: dict[Endpoint, tuple[float | None, float]] = {}
        self.verdict: str | None = None
        self._prober: Prober | None = None
        self._wake = asyncio.Event()

    def take(self, finding: Finding) -> None:
        """A record of the peer; one that is not newer than the latest is left alone, unless that is not true yet."""
        if self.latest is not None and finding.record.issued <= self.latest.record.issued <= self.ours.latest():
            return
        self.latest = finding
        self._wake.set()
        if not self.ours.ready.is_set():
            # open our NAT before anybody hears of us, so that the other side's first packet finds it open
            for endpoint in self.judge(finding.record):
                self.link.punch(endpoint, PUNCH_TTLS[0])

    def hear(self, endpoint: Endpoint) -> None:
        """The peer's authentic check came from this endpoint: check it too, be it in its record or not."""
        if tryable([Candidate(Kind.OBSERVED, endpoint)], self.ours.ground())[0][1] is None:
            self.heard = endpoint
            if self._prober is not None:
                self._prober.hear(endpoint)
            self._wake.set()

    def move(self) -> None:
        """Our own addresses changed, or the host slept: whatever was known about paths is no longer."""
        self.moved = True
        self._wake.set()

    async def wait(self, seconds: float) -> None:
        """Sleep, unless there are news."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    @property
    def answers_checks(self) -> bool:
        """Whether the peer said that it answers checks, and we can make them."""
        return self.checker is not None and self.latest is not None and self.latest.record.hints.get("checks") is True

    def names(self, endpoint: Endpoint | None) -> bool:
        """Whether the latest record names an endpoint."""
        return self.latest is not None and any(each.endpoint == endpoint for each in self.latest.record.candidates)

    def judge(self, record: Record) -> list[Endpoint]:
        """What may be tried, in the order of trying; `skipped`, `results` and `verdict` are about this record then.

        It ends with the endpoint that the user gave, whatever it is: without us WireGuard would try nothing else.
        """
        verdicts = tryable(record.candidates, self.ours.ground())
        self.skipped = [(each, reason) for each, reason in verdicts if reason is not None]
        named = {each.endpoint for each in record.candidates}
        unsaid = tryable(supposed(record.candidates), self.ours.ground())
        self.supposed = [each.endpoint for each, reason in unsaid if reason is None]
        self.results = {endpoint: result for endpoint, result in self.results.items() if endpoint in named}
        self.review()
        able = [each for each, reason in verdicts if reason is None]
        ordered = [each.endpoint for each in order(able, self.ours.candidates(), self.worked)]
        given = self.link.given
        return ordered if given is None or given in ordered else [*ordered, given]

    def review(self) -> None:
        """Whether this pair can work at all: our own NAT may be known better by now."""
        verdict = None if self.latest is None else impossible(self.ours.nat(), nat_of(self.latest.record))
        if verdict is not None and verdict != self.verdict:
            self.say(f"this pair can hardly be connected directly: {verdict}")
        self.verdict = verdict

    def prober(self) -> Prober | None:
        """What checks this peer's endpoints, until `close`; None where no checks can be made."""
        if self._prober is None and self.checker is not None:
            self._prober = Prober(self.checker, self.link.key, self._result)
        return self._prober

    def _result(self, endpoint: Endpoint, seconds: float | None) -> None:
        self.results[endpoint] = seconds, time.time()

    async def close(self) -> None:
        """End the checks that are under way."""
        prober, self._prober = self._prober, None
        if prober is not None:
            await prober.close()
