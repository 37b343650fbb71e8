"""The account of a session: what `report.py` writes down, gathered from those who know."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wgdisco.announce import hints_of
from wgdisco.device import Interface
from wgdisco.keys import PublicKey
from wgdisco.link import Users
from wgdisco.outlook import Outlook, nat_of
from wgdisco.record import Candidate, Kind
from wgdisco.report import BackendReport, CandidateReport, Counters, PeerReport, RecordReport, Report, life
from wgdisco.search import Finding
from wgdisco.session import Session
from wgdisco.tend import Tender

__all__ = ["Diary", "account", "blank"]

TRIED_OFTEN = 20  # tries of one record after which a peer is waited for


@dataclass
class Diary:
    """What outlives a session: counters of those before, the last thing done about each peer, its user's settings.

    `index` is the number of the interface that `users` are about.
    """

    started: float = field(default_factory=time.time)
    counters: Counters = field(default_factory=Counters)
    last: dict[str, str] = field(default_factory=dict)
    stored: dict[str, float] = field(default_factory=dict)
    users: dict[PublicKey, Users] = field(default_factory=dict)
    index: int = 0

    def close(self, session: Session) -> None:
        """Add what an ended session counted, and remember what it found."""
        self.counters = _counted(self.counters, session)
        self.users = {peer: tender.link.knowledge for peer, tender in session.tenders.items()}
        self.index = session.interface.index

    def users_of(self, interface: Interface) -> Mapping[PublicKey, Users]:
        """What the last session knew of the users' settings; nothing when the interface was made anew since."""
        return self.users if interface.index == self.index else {}


def blank(interface: str, diary: Diary, state: str, trouble: str = "") -> Report:
    """A report without a session: the interface is missing, or the agent ends."""
    process, boot = life(os.getpid())
    return Report(
        written=time.time(),
        interface=interface,
        state=state,
        since=diary.started,
        pid=os.getpid(),
        process=process,
        boot=boot,
        trouble=trouble,
        counters=diary.counters,
    )


def account(session: Session, interface: Interface, diary: Diary, most: int) -> Report:
    """Everything about a session as of now; of more than `most` peers only the totals."""
    report, announcer = blank(interface.name, diary, "running"), session.announcer
    report.key, report.port, report.fwmark = str(interface.public), interface.listen_port, interface.fwmark
    if (said := announcer.publication) is not None and said.issued:
        report.issued, report.ends = said.issued / 1000, said.issued / 1000 + said.lifetime
        report.readers = ", ".join(sorted({audience.scope.name.lower() for audience in said.audiences}))
        diary.stored |= dict.fromkeys(said.stored, report.issued)
    report.nat, report.translated = _pair(hints_of(announcer.where).get("nat")), announcer.where.nat.translated
    report.candidates = [_candidate(each, _sources(session)) for each in announcer.candidates]
    report.problems = list(announcer.where.problems)
    report.backends = _backends(session, diary)
    report.counters = _counted(diary.counters, session)
    tended = list(session.tenders.values())
    report.totals = dict(Counter(_state(tender) for tender in tended)) if tended else _fleet(session, interface)
    report.peers = [_peer(session, tender, interface, diary) for tender in tended[:most]]
    return report


def _sources(session: Session) -> Mapping[object, str]:
    return {found.endpoint: found.source for found in session.announcer.where.found}


def _candidate(candidate: Candidate, sources: Mapping[object, str]) -> CandidateReport:
    kind = _kind(candidate.kind)
    return CandidateReport(endpoint=str(candidate.endpoint), kind=kind, source=sources.get(candidate.endpoint, ""))


def _kind(kind: Kind) -> str:
    return kind.name.lower().replace("_", "-")


def _pair(nat: object) -> tuple[str, str]:
    return (str(nat[0]), str(nat[1])) if isinstance(nat, Sequence) and len(nat) == 2 else ("unknown", "unknown")


def _backends(session: Session, diary: Diary) -> list[BackendReport]:
    reports = []
    for store in session.node.stores:
        health, error = store.health, session.seeker.errors.get(store.name)
        reports.append(
            BackendReport(
                name=store.name,
                answered=health.answered,
                stored=diary.stored.get(store.name, 0.0),
                failed=health.failed if health.error else 0.0,
                error=health.error or (str(error) if error is not None else ""),
                rests=health.rests_until if store.rests else 0.0,
            )
        )
    return reports


def _counted(before: Counters, session: Session) -> Counters:
    tenders = session.tenders.values()
    moves = sum(tender.guard.moves for tender in tenders) + (session.fleet.changed if session.fleet is not None else 0)
    return Counters(
        publishes=before.publishes + session.announcer.publishes,
        publish_failures=before.publish_failures + session.announcer.failures,
        records=before.records + session.seeker.records,
        refused=before.refused + session.seeker.refused.total(),
        connects=before.connects + sum(tender.connects for tender in tenders),
        moves=before.moves + moves,
        restarts=before.restarts + session.restarts,
    )


def _fleet(session: Session, interface: Interface) -> dict[str, int]:
    now = time.time()
    live = sum(1 for peer in interface.peers.values() if peer.handshake and now - peer.handshake - peer.stepped < 180)
    found = len(session.fleet.latest) if session.fleet is not None else 0
    return {"connected": live, "peers": len(interface.peers), "records": found}


def _state(tender: Tender) -> str:
    return "waiting" if tender.state == "connecting" and tender.fired > TRIED_OFTEN else tender.state


def _peer(session: Session, tender: Tender, interface: Interface, diary: Diary) -> PeerReport:
    key, peer = tender.peer, interface.peers.get(tender.peer)
    report = PeerReport(key=str(key), state=_state(tender), since=tender.since, last=diary.last.get(str(key), ""))
    if peer is not None:
        report.endpoint = str(peer.endpoint) if peer.endpoint is not None else ""
        report.handshake = peer.handshake + peer.stepped  # by the clock of now, so that its age is true
        report.rx, report.tx, report.keepalive = peer.rx, peer.tx, peer.keepalive
    report.received, report.verdict = tender.pulse.heard_at(), tender.outlook.verdict or ""
    if (search := session.seeker.searches.get(tender.peer)) is not None:
        refused = sum((answer.refused for answer in search.answers.values()), Counter())
        report.refused = dict(refused)
    if tender.outlook.latest is not None:
        report.record = _record(tender.outlook.latest, tender.outlook)
    return report


def _record(finding: Finding, outlook: Outlook) -> RecordReport:
    record = finding.record
    return RecordReport(
        issued=record.issued / 1000,
        ends=record.end / 1000,
        backend=finding.backend,
        nat=_pair(nat_of(record)),
        checks=record.hints.get("checks") is True,
        candidates=[_tried(candidate, outlook) for candidate in record.candidates],
    )


def _tried(candidate: Candidate, outlook: Outlook) -> CandidateReport:
    report = CandidateReport(endpoint=str(candidate.endpoint), kind=_kind(candidate.kind))
    reason = next((why for each, why in outlook.skipped if each == candidate), "")
    if reason:
        report.result, report.reason = "not tried", reason
    elif candidate.endpoint in outlook.results:
        report.rtt, report.at = outlook.results[candidate.endpoint]
        report.result = "no answer" if report.rtt is None else "answered"
    return report
