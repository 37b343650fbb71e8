"""Why a peer is not connected: what is known about it, the likely reason, and the next step.

With a live agent this is from its report; without one the peer is looked for once, as `wgdisco resolve` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from wgdisco.cli.setting import setting
from wgdisco.cli.words import add_backends, add_identity, add_secret, add_whereabouts

if TYPE_CHECKING:
    from wgdisco.cli.case import Case
    from wgdisco.report import Report

__all__ = ["configure", "lines", "plain", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("peer", metavar="PEER", help="the public key of a peer of the interface, or its beginning")
    add_identity(parser, key_file=False)
    add_backends(parser)
    add_secret(parser)
    add_whereabouts(parser)
    parser.add_argument("--json", action="store_true", help="the findings as one object (docs/status.md)")
    parser.add_argument("--folder", metavar="DIR", help="where the agents' reports lie (default: /run/wgdisco)")


def run(options: argparse.Namespace) -> int:
    """Explain one peer; 0 when it is connected, else 1."""
    from wgdisco.cli.reasons import likely, works

    case = _reported(options) or _looked_up(options)
    if options.json:
        from wgdisco.cli.show import print_json

        print_json(plain(case))
    else:
        print("\n".join(lines(case)))
    return 0 if works(likely(case)) else 1


def _reported(options: argparse.Namespace) -> Case | None:
    """What a live agent's report tells; None when there is none, or it leaves the peer out."""
    from wgdisco import report
    from wgdisco.cli.peers import meant
    from wgdisco.errors import UsageError

    folder = Path(options.folder) if options.folder else report.FOLDER
    found = []
    for name in _interfaces(options.interface, folder):
        told = report.read(report.where(name, folder))
        peers = {each.key: each for each in told.peers} if report.alive(told) else {}
        found += [(told, peers[key]) for key in meant(options.peer, peers)]
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(f"{peer.key} of {told.interface}" for told, peer in found)
        raise UsageError(f"{options.peer!r} is the beginning of {names}; type more of it, or choose with -i")
    from wgdisco.cli.case import Case

    return Case(*found[0], now=time())


def _interfaces(name: str | None, folder: Path) -> list[str]:
    from wgdisco.report import interfaces

    return [each for each in interfaces(folder) if name in (None, each)]


def _looked_up(options: argparse.Namespace) -> Case:
    """What can be found out without an agent's report."""
    from wgdisco import report
    from wgdisco.cli.case import Case
    from wgdisco.cli.lookup import look_up
    from wgdisco.cli.peers import chosen
    from wgdisco.cli.running import run as run_async

    folder = Path(options.folder) if options.folder else report.FOLDER
    agents = {name: report.read(report.where(name, folder)) for name in _interfaces(options.interface, folder)}
    for each in agents.values():
        _remark(each)
    here = setting(options)
    _, interface, _ = here.wireguard
    peer = chosen(options.peer, interface.peers, interface.name)
    agent = agents.get(interface.name)
    told = run_async(look_up(here, peer))
    return Case(told, told.peers[0], told.written, "silent" if agent is not None and report.alive(agent) else "none")


def _remark(agent: Report) -> None:
    """What an agent that has nothing to say about the peer said last."""
    from wgdisco.cli import describe
    from wgdisco.cli.setting import note
    from wgdisco.cli.show import printable, span
    from wgdisco.report import age

    now = time()
    if (health := describe.health(agent, now)) != "running":
        trouble = f": {printable(agent.trouble)}" if agent.trouble else ""
        note(f"the agent of {agent.interface} is {health}; it wrote last {span(age(agent.written, now))} ago{trouble}")


def lines(case: Case) -> Iterator[str]:
    """All that is known, in wg(8)'s shape and two tables; then the likely reason and the next step."""
    from msgspec.structs import replace

    from wgdisco.cli import describe
    from wgdisco.cli.reasons import likely
    from wgdisco.cli.show import nat, printable

    report, record = case.report, case.peer.record
    yield from describe.peer(replace(case.peer, verdict=""), case.now)  # which is about the pair, below
    for reason, count in case.peer.refused.items():
        yield f"  refused: {count} {printable(reason)}"
    yield f"  its nat: {nat(*record.nat, None) if record is not None else 'unknown (no record)'}"
    yield f"  checks: {_checks(case)}"
    yield ""
    yield f"interface: {report.interface}"
    yield f"  agent: {_agent(case)}"
    yield f"  our record: {describe.our_record(report, case.now)}"
    yield f"  our nat: {nat(*report.nat, report.translated)}"
    yield f"  this pair: {_pair(case)}"
    yield from _table("backends", [(each.name, describe.backend(each, case.now)) for each in report.backends])
    candidates = [] if record is None else record.candidates
    yield from _table("its candidates", [describe.candidate(each, case.now) for each in candidates])
    because = likely(case)
    yield ""
    yield f"likely reason: {because.text}"
    yield f"next step: {because.step}"


def _agent(case: Case) -> str:
    from wgdisco.cli.show import span
    from wgdisco.report import age

    if case.agent == "reports":
        return f"{case.health} (its report is {span(age(case.report.written, case.now))} old)"
    told = "runs, but its report leaves this peer out" if case.agent == "silent" else "none runs"
    return f"{told}; all this was looked up just now"


def _checks(case: Case) -> str:
    record = case.peer.record
    if record is None:
        return "unknown (no record)"
    return "it answers checks" if record.checks else "it answers none (no agent runs there, or it may not)"


def _pair(case: Case) -> str:
    from wgdisco.cli.show import printable

    if case.possible is False:
        return f"cannot be connected directly: {printable(case.verdict)}"
    return "can be connected directly" if case.possible else "nothing is known against it"


def _table(title: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns below a title; nothing at all without rows."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    yield ""
    yield f"{title}:"
    for row in rows:
        yield "  " + "  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]])


def plain(case: Case) -> dict[str, Any]:
    """The same as an object of plain values; times are unix seconds."""
    import msgspec

    from wgdisco.cli.reasons import likely

    report, reason = case.report, likely(case)
    return {
        "version": 1,
        "interface": report.interface,
        "agent": case.health,
        "written": report.written,
        "peer": msgspec.to_builtins(case.peer),
        "own": {
            "key": report.key,
            "issued": report.issued,
            "ends": report.ends,
            "nat": list(report.nat),
            "translated": report.translated,
        },
        "backends": msgspec.to_builtins(report.backends),
        "possible": case.possible,
        "reason": reason.name,
        "text": reason.text,
        "next": reason.step,
    }
