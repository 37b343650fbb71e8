"""One peer and all that is known about it: what the rules of `why` judge, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wgdisco.cli.describe import health
from wgdisco.connect import impossible
from wgdisco.report import PeerReport, Report, age

__all__ = ["Case", "Reason"]


class Reason(NamedTuple):
    """The rule's name, one sentence, and what to do next."""

    name: str
    text: str
    step: str


@dataclass(frozen=True)
class Case:
    """What is known about one peer at `now` (unix seconds), and from whom.

    `agent`: "reports" (all this is from an agent's report), "silent" (one is alive, but its report leaves this peer
    out), "none" (no agent is alive; all this was looked up just now).
    """

    report: Report
    peer: PeerReport
    now: float
    agent: str = "reports"

    @property
    def health(self) -> str:
        """Of the agent: `running`, `waiting`, `hanging`, `dead`, `stopped`, or what `agent` says."""
        return health(self.report, self.now) if self.agent == "reports" else self.agent

    @property
    def verdict(self) -> str:
        """Why these two NATs cannot be punched through, "" when they can or it is not known."""
        nat = ("unknown", "unknown") if self.peer.record is None else self.peer.record.nat
        return self.peer.verdict or impossible(self.report.nat, nat) or ""

    @property
    def possible(self) -> bool | None:
        """Whether this pair can be connected directly as far as the NATs go; None when that is not known."""
        if self.verdict:
            return False
        mappings = [self.report.nat[0], "unknown" if self.peer.record is None else self.peer.record.nat[0]]
        return None if "unknown" in mappings else True

    @property
    def short(self) -> str:
        """The peer's key, shortened as in remarks."""
        return f"{self.peer.key[:8]}…"

    @property
    def stores(self) -> str:
        """The backends in use, for a sentence."""
        return ", ".join(each.name for each in self.report.backends)

    @property
    def quiet(self) -> float | None:
        """Seconds since bytes came in, or since the handshake when none are known of; None without either."""
        last = self.peer.received or self.peer.handshake
        return age(last, self.now) if last else None
