"""Where am I, and what does my NAT allow: every source asked once, with its provenance."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wgdisco.cli.setting import Setting, note, setting
from wgdisco.cli.whereabouts import open_port, release, sources
from wgdisco.cli.words import add_identity, add_whereabouts

if TYPE_CHECKING:
    from wgdisco.sources import Nat, Source, Where

__all__ = ["THOROUGH", "configure", "run", "thorough", "verdict"]

THOROUGH = 6.0  # seconds; the filtering tests wait for answers that must not come


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_identity(parser, key_file=False)
    add_whereabouts(parser)
    parser.add_argument("--json", action="store_true", help="the findings as one object")


def run(options: argparse.Namespace) -> int:
    """Print where we are; 0 when there is at least one endpoint, else 1."""
    from wgdisco.cli.running import run as run_async

    here = setting(options)
    where = run_async(_find(here))
    if options.json:
        from wgdisco.cli import show

        show.print_json(_plain(where))
    else:
        _print(here, where)
    return 0 if where.found else 1


async def _find(here: Setting) -> Where:
    from wgdisco.sources import gather

    async with AsyncExitStack() as stack:
        port = await open_port(here, stack)
        asked = [thorough(source) for source in sources(here, port)]
        try:
            return await gather(asked, THOROUGH)
        finally:
            await release(asked)


def thorough(source: Source) -> Source:
    """A STUN source that also does RFC 5780's tests, which take longer."""
    from wgdisco.sources.otherwise import Otherwise
    from wgdisco.sources.stun import StunSource

    if isinstance(source, Otherwise):
        return replace(source, first=thorough(source.first), patience=THOROUGH / 2)
    return replace(source, behaviour=True) if isinstance(source, StunSource) else source


def _print(here: Setting, where: Where) -> None:
    from wgdisco.cli.show import kind_name

    if here.interface is not None:
        print(f"interface: {here.interface.name}")
        print(f"  listening port: {here.interface.listen_port}")
    for found in where.found:
        print(f"  endpoint: {found.endpoint} ({kind_name(found.kind)}; {found.detail or found.source})")
    print(f"  nat: {verdict(where.nat)}")
    for problem in where.problems:
        note(problem)


def verdict(nat: Nat) -> str:
    """What the NAT allows, in one sentence."""
    from wgdisco.cli import show

    return show.nat(str(nat.mapping), str(nat.filtering), nat.translated)


def _plain(where: Where) -> dict[str, Any]:
    from wgdisco.cli.show import kind_name

    return {
        "version": 1,
        "endpoints": [
            {
                "address": str(each.endpoint.address),
                "port": each.endpoint.port,
                "kind": kind_name(each.kind),
                "source": each.source,
                "detail": each.detail,
            }
            for each in where.found
        ],
        "nat": {
            "mapping": str(where.nat.mapping),
            "filtering": str(where.nat.filtering),
            "translated": where.nat.translated,
        },
        "problems": where.problems,
    }
