"""Sign where this node can be reached and put the record into every backend."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from wgdisco.cli.setting import Setting, audiences, note, setting
from wgdisco.cli.whereabouts import open_port, sources
from wgdisco.cli.words import add_audience, add_backends, add_identity, add_whereabouts

if TYPE_CHECKING:
    from wgdisco.node import Publication
    from wgdisco.sources import Where

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_identity(parser)
    add_backends(parser)
    add_audience(parser)
    add_whereabouts(parser)
    parser.add_argument("--leave", action="store_true", help="say good-bye: publish a record without endpoints")
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would be said to whom; store nothing")
    parser.add_argument("--json", action="store_true", help="the outcome as one object")


def run(options: argparse.Namespace) -> int:
    """Publish once; 0 when at least one store has all of it, else 3."""
    from wgdisco.cli.running import run as run_async

    return run_async(_publish(setting(options)))


async def _publish(here: Setting) -> int:
    from wgdisco.announce import hints_of
    from wgdisco.cli import show
    from wgdisco.policy import publishable
    from wgdisco.upkeep import tidy

    async with here.node() as node:
        readers = audiences(here, node)
        where = await _whereabouts(here)
        for problem in where.problems:
            note(problem)
        found = publishable(where.found, readers[0].scope.name.lower(), expose_hosts=here.expose_hosts)
        _require(found, here)
        if here.options.dry_run:
            show_plan = _print_plain_plan if here.options.json else _print_plan
            show_plan(found, readers, [store.name for store in node.stores])
            return 0
        publication = await node.publish(found, readers, hints_of(where))
        await tidy(node)
    if here.options.json:
        show.print_json(_plain(publication))
    else:
        _print(publication)
    return (
        0
        if _lasts(publication, {store.name for store in node.stores if store.backend.lasting})
        else _failed(publication)
    )


def _lasts(publication: Publication, lasting: set[str]) -> bool:
    """Whether a store keeps all of it when we have ended; says so when the others alone took it."""
    if publication.stored and not lasting & set(publication.stored):
        names = ", ".join(publication.stored)
        other = "" if lasting else ", or add -b dht"
        note(f"{names}: answers only while wgdisco runs, so nobody finds this now; use `wgdisco run`{other}")
    return bool(lasting & set(publication.stored))


async def _whereabouts(here: Setting) -> Where:
    from wgdisco.errors import UsageError
    from wgdisco.sources import Where, gather

    if here.options.leave:
        return Where()
    if here.interface is None and not here.given():
        raise UsageError("without an interface there is nothing to find out from; say where: --endpoint ADDRESS:PORT")
    async with AsyncExitStack() as stack:
        port = None if here.given() else await open_port(here, stack)
        return await gather(sources(here, port, outlive=True))


def _failed(publication: Publication) -> int:
    """The exit code when no store has all of it: a mistake of the user's when every error is one."""
    from wgdisco.errors import UsageError

    errors = [outcome.error for outcome in publication.outcomes]
    return 2 if all(isinstance(error, UsageError) for error in errors) else 3


def _require(found: object, here: Setting) -> None:
    from wgdisco.errors import NotFound, UsageError

    if found or here.options.leave:
        return
    if given := here.given():
        raise UsageError(f"no peer could use {', '.join(given)}, so nothing was published; say where peers reach us")
    raise NotFound("found no endpoint to publish; give one with --endpoint ADDRESS:PORT, or see: wgdisco endpoints")


def _print_plan(found: Any, readers: Any, stores: list[str]) -> None:
    from wgdisco.cli import show

    print(f"would publish to: {', '.join(stores)}")
    print(f"readable by: {show.readers(readers)}")
    for candidate in found:
        print(f"  endpoint: {candidate}")


def _print_plain_plan(found: Any, readers: Any, stores: list[str]) -> None:
    from wgdisco.cli import show

    show.print_json(
        {
            "version": 1,
            "dry_run": True,
            "audience": readers[0].scope.name.lower(),
            "records": len(readers),
            "candidates": [str(candidate.endpoint) for candidate in found],
            "backends": [{"name": name} for name in stores],
        }
    )


def _print(publication: Publication) -> None:
    from wgdisco.cli import show

    print(f"readable by: {show.readers(publication.audiences)}")
    for candidate in publication.candidates:
        print(f"  endpoint: {candidate}")
    if not publication.candidates:
        print("  endpoint: (none: good-bye)")
    print(f"  lifetime: {show.span(publication.lifetime)}")
    for outcome in publication.outcomes:
        error = str(outcome.error).removeprefix(f"{outcome.backend}: ")
        done = "stored" if outcome.complete else f"{outcome.stored} of {outcome.asked} stored; {error}"
        less = publication.dropped.get(outcome.backend)
        print(f"  {outcome.backend}: {done}" + (f", {less} candidates did not fit" if less else ""))


def _plain(publication: Publication) -> dict[str, Any]:
    return {
        "version": 1,
        "issued": publication.issued,
        "lifetime": publication.lifetime,
        "audience": publication.audiences[0].scope.name.lower(),
        "records": len(publication.audiences),
        "candidates": [str(candidate.endpoint) for candidate in publication.candidates],
        "backends": [
            {
                "name": outcome.backend,
                "stored": outcome.stored,
                "slots": outcome.asked,
                "seconds": round(outcome.seconds, 3),
                "error": None if outcome.error is None else str(outcome.error),
                "dropped": publication.dropped.get(outcome.backend, 0),
            }
            for outcome in publication.outcomes
        ],
    }
