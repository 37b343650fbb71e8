"""The command line: finds the command, runs it, and turns every error into one message and an exit code.

Only the module of the command that was typed is imported, so that `wgdisco --help` stays as fast as Python itself.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from wgdisco.errors import WgdiscoError

__all__ = ["entry", "main"]

COMMANDS = {
    "publish": "sign where this node can be reached and store it",
    "resolve": "find the record of a public key and verify it",
    "status": "what the agent knows and does (the default)",
    "why": "why a peer is not connected, or that it is",
    "run": "the agent: keep publishing, and keep peers reachable",
    "connect": "find a peer, punch through and return at the handshake",
    "endpoints": "where am I, and what does my NAT allow",
    "backends": "the stores there are, and their options",
    "check": "try everything once: interface, keys, STUN, every backend",
    "inspect": "decode a blob as a store keeps it",
    "genkey": "make the secret of a network",
    "dht-node": "run a storing node of the DHT",
    "plugin": "write a package of your own that adds a store",
}
DEFAULT = "status"
"""What `wgdisco` alone does, as `wg` alone shows."""
EPILOG = """exit codes: 0 done, 1 no valid record or no handshake, 2 usage or configuration,
3 no backend answered or stored, 4 interface or key not accessible, 70 bug, 130 interrupted
`wgdisco COMMAND --help` shows the options of a command"""


def entry() -> NoReturn:
    """What the console script calls: ends at once, whatever threads and tasks a plugin left behind."""
    code = main()
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else ""
    if name in COMMANDS:
        return _run(name, words[1:])
    if name == "help" and words[1:]:
        return main([*words[1:], "--help"])
    overview = ("-h", "--help", "help", "-V", "--version")
    if name not in overview and name[:1] in ("", "-"):
        return _run(DEFAULT, words)
    parser = _overview()
    if name in ("-V", "--version"):
        from wgdisco import __version__

        print(f"wgdisco {__version__}")
        return 0
    if name in overview:
        parser.print_help()
        return 0
    close = difflib.get_close_matches(name, COMMANDS, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(COMMANDS)}"
    print(f"wgdisco: unknown command {name!r}; {hint}", file=sys.stderr)
    return 2


def _overview() -> argparse.ArgumentParser:
    """The parser that prints the overview; commands are parsed by their own."""
    parser = argparse.ArgumentParser(
        prog="wgdisco",
        description="WireGuard peers find each other: the public key is the address.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser


def _run(name: str, words: Sequence[str]) -> int:
    command = importlib.import_module(f"wgdisco.cli.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"wgdisco {name}", description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.configure(parser)
    return _guarded(command, parser.parse_args(words))


def _guarded(command: ModuleType, options: argparse.Namespace) -> int:
    from wgdisco.errors import WgdiscoError

    try:
        code = int(command.run(options))
        if sys.stdout is not None:
            sys.stdout.flush()
    except WgdiscoError as error:
        print(f"wgdisco: {error}", file=sys.stderr)
        if getattr(options, "json", False):
            _print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0  # whoever read our output has gone, as `head` does
    except OSError as error:
        print(f"wgdisco: {error}; the command did not finish", file=sys.stderr)
        return 4
    except Exception as error:  # noqa: BLE001 - the last line of defence, which says what it is
        _report_bug(error)
        return 70
    return code


def _print_error(error: WgdiscoError) -> None:
    """The error as the one object that `--json` promises; whoever read our output may have gone."""
    from wgdisco.cli.show import print_json

    with suppress(OSError):
        print_json({"version": 1, "error": str(error), "code": error.exit_code})
        sys.stdout.flush()


def _report_bug(error: Exception) -> None:
    """A traceback for whoever mends it; its last line is the error, which never holds a secret."""
    import traceback

    traceback.print_exception(error)
    print("wgdisco: this is a bug in wgdisco; please report the lines above", file=sys.stderr)


if __name__ == "__main__":
    entry()
