"""Find the record of a public key in every backend, verify it, and print the freshest."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from wgdisco.cli.setting import Setting, note, setting
from wgdisco.cli.words import add_backends, add_identity, add_secret

if TYPE_CHECKING:
    from wgdisco.keys import PublicKey
    from wgdisco.node import Node
    from wgdisco.search import Finding, Search

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("key", metavar="PUBKEY", help="the WireGuard public key, as `wg pubkey` prints it")
    add_identity(parser)
    add_backends(parser)
    add_secret(parser)
    parser.add_argument("--all", action="store_true", help="wait for every backend, and show what each of them said")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="the best endpoint alone, for scripts")
    form.add_argument("--json", action="store_true", help="the record as one object")


def run(options: argparse.Namespace) -> int:
    """Resolve once; 0 with a valid record, 1 without, 3 when no backend answered."""
    from wgdisco.cli.running import run as run_async
    from wgdisco.keys import PublicKey

    subject = PublicKey.parse(options.key)
    return run_async(_resolve(setting(options, needed=False), subject))


async def _resolve(here: Setting, subject: PublicKey) -> int:
    from wgdisco.discovery import require

    async with here.node() as node:
        search = await node.resolve(subject, settle=None if here.options.all else 1.0)
        finding = require(search, subject, _hint(here, node))
        if finding.equivocation:
            note(f"ALARM: {subject.short} said two different things at the same time; is its key used on two hosts?")
        _show(here, node, finding, search)
    if here.options.short and not finding.record.candidates:
        note(f"{subject.short} said that it is leaving: it has no endpoint")
        return 1
    return 0


def _hint(here: Setting, node: Node) -> str:
    """Which audiences could not be asked for."""
    asked = ["key"] + ["network"] * bool(node.networks) + ["peers"] * (here.private is not None)
    missing = [] if node.networks else ["--secret-file FILE if it publishes to a network"]
    missing += [] if here.private else ["-i INTERFACE or --private-key-file FILE if it publishes to its peers"]
    return f"\nasked for its records to: {', '.join(sorted(asked))}" + "".join(f"\n  add {each}" for each in missing)


def _show(here: Setting, node: Node, finding: Finding, search: Search) -> None:
    from wgdisco.cli import show

    scope, now = node.scope_of(finding), node.clock()
    if here.options.short:
        for candidate in finding.record.candidates[:1]:
            print(candidate.endpoint)
        if now > finding.record.end:
            note(f"this record expired {show.ago((now - finding.record.end) / 1000)}")
        return
    if here.options.json:
        plain = show.plain_record(finding.record, scope) | {"backend": finding.backend}
        show.print_json(plain | {"answers": _answers(search)} if here.options.all else plain)
        return
    show.print_record(finding.record, scope, now, finding.backend)
    if here.options.all:
        for answer in search.answers.values():
            print(f"  {answer}")


def _answers(search: Search) -> list[dict[str, Any]]:
    return [
        {
            "name": answer.backend,
            "issued": answer.accepted,
            "refused": dict(answer.refused),
            "seconds": round(answer.seconds, 3),
            "error": None if answer.error is None else str(answer.error),
        }
        for answer in search.answers.values()
    ]
