"""The agent's report in words: ages, not booleans; nothing here reads or prints."""

from __future__ import annotations

from collections.abc import Iterator

from wgdisco.cli.show import ago, nat, printable, size, span
from wgdisco.report import STATES, BackendReport, CandidateReport, PeerReport, RecordReport, Report, age, alive

__all__ = ["HANGING", "backend", "candidate", "health", "interface", "our_record", "peer", "record", "tried"]

HANGING = 30.0
"""Seconds without a report after which an agent that is there counts as hanging."""


def health(report: Report, now: float) -> str:
    """`running`, `waiting`, `stopped`, `dead` (its process is gone) or `hanging` (it is there, and writes nothing)."""
    if report.state == "stopped":
        return "stopped"
    if not alive(report):
        return "dead"
    return "hanging" if age(report.written, now) > HANGING else report.state


def interface(report: Report, now: float) -> Iterator[str]:
    """The lines about the agent and its interface; `now` in unix seconds."""
    yield f"interface: {report.interface}"
    yield f"  agent: {_agent(report, now)}"
    if not report.key:
        return  # an agent that has no interface, or has ended, knows nothing more
    yield f"  public key: {report.key}"
    if report.port:
        yield f"  listening port: {report.port}"
    if report.fwmark:
        yield f"  fwmark: {report.fwmark:#x}"
    yield f"  record: {our_record(report, now)}"
    for found in report.candidates:
        source = f"; {printable(found.source)}" if found.source else ""
        yield f"  endpoint: {found.endpoint} ({found.kind}{source})"
    yield f"  nat: {nat(*report.nat, report.translated)}"
    for each in report.backends:
        yield f"  backend: {each.name}: {backend(each, now)}"
    for problem in report.problems:
        yield f"  problem: {printable(problem)}"
    yield f"  peers: {_counts(report)}"


def _agent(report: Report, now: float) -> str:
    """Whether it runs, how long it has been like that, and how old what it says is."""
    quiet, pid = span(age(report.written, now)), f"pid {report.pid}"
    match health(report, now):
        case "stopped":
            return f"stopped {quiet} ago; start it with: wgdisco run -i {report.interface}"
        case "dead":
            again = f"start it with: wgdisco run -i {report.interface}"
            return f"dead ({pid} is gone); what follows is {quiet} old; {again}"
        case "hanging":
            return f"hanging ({pid} is there, but has written nothing for {quiet})"
        case state:
            trouble = f": {printable(report.trouble)}" if report.trouble else ""
            return f"{state} for {span(age(report.since, now))} ({pid}, written {quiet} ago){trouble}"


def _counts(report: Report) -> str:
    """How many peers are in which state, and of how many there are."""
    states = ", ".join(f"{report.totals[state]} {state}" for state in STATES if report.totals.get(state))
    followed = f"{states or '0 connected'} of {report.totals['peers']}" if "peers" in report.totals else states
    known = f"; {report.totals['records']} records known" if "records" in report.totals else ""
    return f"{followed or 'none'}{known}"


def our_record(report: Report, now: float) -> str:
    """How old what we say is, where it lies, and who can read it."""
    if not report.issued:
        return "none yet"
    kept = ", ".join(each.name for each in report.backends if each.stored)
    where = f"stored by {kept}" if kept else "stored by no backend"
    by = f"; readable by {report.readers}" if report.readers else ""
    return f"{_old(report.issued, now)}, {where}; {_end(report.ends, now)}{by}"


def backend(each: BackendReport, now: float) -> str:
    """When it answered last, since when it fails and why, and until when it is left alone."""
    parts = []
    if each.error:
        since = f"for {span(age(each.failed, now))}" if each.failed else "so far"
        parts.append(f"fails {since}: {printable(each.error.removeprefix(f'{each.name}: '))}")
    if each.rests > now:
        parts.append(f"left alone for another {span(each.rests - now)}")
    if each.answered:
        parts.append(f"answered {ago(now - each.answered)}")
    if each.stored:
        parts.append(f"stored our record {ago(now - each.stored)}")
    return "; ".join(parts) or "not asked yet"


def peer(each: PeerReport, now: float) -> Iterator[str]:
    """The lines about one peer, in wg(8)'s shape."""
    yield f"peer: {each.key}"
    yield f"  state: {each.state}" + (f" for {span(age(each.since, now))}" if each.since else "")
    if each.endpoint:
        yield f"  endpoint: {each.endpoint}"
    yield f"  latest handshake: {ago(now - each.handshake) if each.handshake else 'never'}"
    if each.rx or each.tx:
        last = f" ({ago(now - each.received)})" if each.received else ""
        yield f"  transfer: {size(each.rx)} received{last}, {size(each.tx)} sent"
    if each.keepalive:
        yield f"  persistent keepalive: every {span(each.keepalive)}"
    yield f"  record: {record(each.record, now)}"
    if each.verdict:
        yield f"  verdict: {printable(each.verdict)}"
    if each.last:
        yield f"  last: {printable(each.last)}"


def record(found: RecordReport | None, now: float) -> str:
    """How old a peer's record is, which backend gave it, and when it ends."""
    if found is None:
        return "none found"
    leaving = "" if found.candidates else "; it said that it is leaving"
    return f"{_old(found.issued, now)}, from {printable(found.backend)}; {_end(found.ends, now)}{leaving}"


def candidate(each: CandidateReport, now: float) -> tuple[str, str, str]:
    """A peer's candidate as a row: where, which kind, and what came of it."""
    return each.endpoint, printable(each.kind), tried(each, now)


def tried(each: CandidateReport, now: float) -> str:
    """What came of a peer's candidate, and when."""
    when = f" {ago(now - each.at)}" if each.at else ""
    if each.result == "answered":
        took = f" within {1000 * each.rtt:.0f} ms" if each.rtt is not None else ""
        return f"answered{took}{',' if took and when else ''}{when}"
    reason = f": {printable(each.reason)}" if each.reason else ""
    return f"{each.result or 'not yet tried'}{reason}{',' if when else ''}{when}"


def _old(issued: float, now: float) -> str:
    return f"{span(now - issued)} old" if issued <= now else f"{span(issued - now)} ahead of our clock"


def _end(ends: float, now: float) -> str:
    return f"expires in {span(ends - now)}" if ends >= now else f"expired {ago(now - ends)}"
