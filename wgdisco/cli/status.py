"""What the agents of this host know and do, in wg(8)'s shape: the report of each interface, with ages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep, time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wgdisco.errors import WgdiscoError
    from wgdisco.report import Report

__all__ = ["configure", "plain", "run", "watch"]

CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("-i", "--interface", metavar="NAME", help="the interface of the agent (default: all there are)")
    parser.add_argument("--json", action="store_true", help="the reports as one object (docs/status.md)")
    parser.add_argument("--watch", action="store_true", help="show it every second until interrupted")
    parser.add_argument("--folder", metavar="DIR", help="where the agents' reports lie (default: /run/wgdisco)")


def run(options: argparse.Namespace) -> int:
    """Show every report; 0 when all agents are alive and at work, 1 when one is dead, hangs, or there is none."""
    return watch(options) if options.watch else _once(options)


def watch(options: argparse.Namespace, pause: Callable[[float], None] | None = None) -> int:
    """Show it again after each `pause` (of a second) until KeyboardInterrupt, also while there is no agent."""
    from wgdisco.errors import WgdiscoError

    code = 0
    try:
        while True:
            print(CLEAR if sys.stdout.isatty() else "", end="")
            try:
                code = _once(options)
            except WgdiscoError as error:
                code = error.exit_code
                print(f"wgdisco: {error}", file=sys.stderr)
            if not (options.json or sys.stdout.isatty()):
                print()
            sys.stdout.flush()
            (pause or sleep)(1.0)
    except KeyboardInterrupt:
        return code


def _once(options: argparse.Namespace) -> int:
    from wgdisco.cli import describe
    from wgdisco.cli.setting import note

    reports, troubles = _reports(options)
    now = time()
    if options.json:
        _print_json([plain(report) for report in reports], options)
    else:
        print("\n\n".join("\n".join(_lines(report, now)) for report in reports), end="\n" if reports else "")
    for trouble in troubles:
        note(str(trouble))
    health = [describe.health(report, now) for report in reports]
    bad = int(any(each in ("dead", "hanging", "stopped") for each in health))
    return max([bad, *(trouble.exit_code for trouble in troubles)])


def _reports(options: argparse.Namespace) -> tuple[list[Report], list[WgdiscoError]]:
    """The reports that are there, and the errors of those that cannot be read; raises NotFound when there is none."""
    from wgdisco import report
    from wgdisco.errors import AccessError, NotFound

    folder = Path(options.folder) if options.folder else report.FOLDER
    if options.interface:
        return [report.read(report.where(options.interface, folder))], []
    reports: list[Report] = []
    troubles: list[WgdiscoError] = []
    for name in report.interfaces(folder):
        try:
            reports.append(report.read(report.where(name, folder)))
        except (AccessError, NotFound) as error:
            troubles.append(error)
    if not reports and not troubles:
        raise NotFound(
            f"no agent has written its state in {folder}; start one with: wgdisco run -i INTERFACE "
            "(all commands: wgdisco --help)"
        )
    return reports, troubles


def plain(report: Report) -> dict[str, Any]:
    """A report as an object of plain values, and whether its agent is alive."""
    import msgspec

    from wgdisco.report import alive

    return {"version": report.version, "alive": alive(report), **msgspec.to_builtins(report)}


def _print_json(found: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """One object: of the interface that was asked for, else of all; while watching one a line."""
    from wgdisco.cli import show

    value = found[0] if options.interface else {"version": 1, "interfaces": found}
    if options.watch:
        print(show.as_json(value))
    else:
        show.print_json(value)


def _lines(report: Report, now: float) -> Iterator[str]:
    from wgdisco.cli import describe
    from wgdisco.report import total

    yield from describe.interface(report, now)
    for each in report.peers:
        yield ""
        yield from describe.peer(each, now)
    left = total(report) - len(report.peers)
    if left:
        yield ""
        yield f"({left} more peers are in the totals alone)"
