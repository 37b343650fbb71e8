"""Run a storing node of the DHT: the first of a private network, or one more of an existing one."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["configure", "run"]

PORT = 6881


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "--bind", action="append", default=[], metavar="ADDRESS", help="listen here alone (default: everywhere)"
    )
    parser.add_argument("--port", type=int, default=PORT, metavar="PORT", help="UDP port (default: %(default)s)")
    parser.add_argument(
        "--bootstrap",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a node to start from; none for the first of a private network",
    )
    parser.add_argument("--state", metavar="FILE", help="keep the node's id and neighbours here over a restart")
    parser.epilog = "Nodes of yours are used with: -b dht -o bootstrap=HOST:PORT"


def run(options: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM; 2 for a port or name that cannot be used."""
    from wgdisco.bep44 import serve
    from wgdisco.bep44.node import ANYWHERE
    from wgdisco.cli.running import run as run_async
    from wgdisco.errors import UsageError

    state = None if options.state is None else Path(options.state)
    try:
        run_async(serve(options.bind or ANYWHERE, options.port, options.bootstrap, state, _report))
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError, OverflowError) as error:
        where = ", ".join(options.bind) or "any address"
        raise UsageError(f"cannot run a node on {where}, UDP port {options.port}: {error}") from error
    return 0


def _report(line: str) -> None:
    print(line, flush=True)
