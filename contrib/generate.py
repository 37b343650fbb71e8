"""Write the completions and the manual page from the commands' own parsers: `make contrib`."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from manual_page import Command, manual_page

from wgdisco import __doc__ as about
from wgdisco import __version__
from wgdisco.cli.main import COMMANDS, EPILOG

HERE = Path(__file__).parent
SHELLS = {"bash": "completions/wgdisco.bash", "zsh": "completions/_wgdisco", "fish": "completions/wgdisco.fish"}
HEADER = "# made by contrib/generate.py, with shtab, from the parsers of the commands: make contrib\n"
CANDIDATES = {  # what prints them, one a line
    "interfaces": "wg show interfaces 2>/dev/null | tr ' ' '\\n'",
    "peers": "wg show all peers 2>/dev/null | cut -f 2",
    "backends": "wgdisco backends 2>/dev/null | sed -n '/^[^ ]/!q; s/ .*//p'",
}
ARGUMENTS = {"--interface": "interfaces", "--backend": "backends", "PEER": "peers", "PUBKEY": "peers"}
DESCRIPTION = f"""\
A node signs where it can be reached with its WireGuard key, seals the record for those who may read it, and puts it
into stores that nobody has to trust: a DHT, etcd, DNS, a shared folder, a program of yours. Its peers look there,
verify, and both punch through their NATs from WireGuard's own port.

Without -i the only WireGuard interface is used. {EPILOG.partition(chr(10) + "`")[0].capitalize()}."""


def main() -> None:
    """Write every file."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def files() -> dict[Path, str]:
    """Every generated file with what it has to hold."""
    made = {HERE / path: completion(shell) for shell, path in SHELLS.items()}
    return {**made, HERE / "man/wgdisco.1": page()}


def page() -> str:
    """The manual page."""
    summary = (about or "").partition("\n")[0].rstrip(".")
    commands = [Command(name, parser, _module(name).__doc__ or "") for name, parser in _parsers().items()]
    return manual_page("wgdisco", __version__, summary, DESCRIPTION.split("\n\n"), commands)


def completion(shell: str) -> str:
    """The completion script for a shell."""
    import shtab

    program = argparse.ArgumentParser(prog="wgdisco")
    program.add_argument("-V", "--version", action="store_true", help="print the version")
    commands = program.add_subparsers(metavar="COMMAND")
    for name, text in COMMANDS.items():
        _module(name).configure(commands.add_parser(name, help=text, description=text))
    for action in _actions(program):
        _complete(action, shell)
    for action in commands.choices["backends"]._get_positional_actions():  # noqa: SLF001 - there is no public way
        action.complete = _candidates("backends")  # type: ignore[attr-defined] # shtab's way to say it
    script = shtab.complete(program, shell)
    # its own head says how to install the script by hand
    return re.sub(r"# AUTOMATICALLY GENERATED.*?\n# See also[^\n]*\n", HEADER, script, count=1, flags=re.DOTALL)


def _complete(action: argparse.Action, shell: str) -> None:
    """Say where the values of an option or argument come from."""
    import shtab

    known = next((ARGUMENTS[key] for key in (*action.option_strings, action.metavar) if key in ARGUMENTS), None)
    if known is not None:
        action.complete = _candidates(known)  # type: ignore[attr-defined] # shtab's way to say it
    elif action.metavar in ("FILE", "FOLDER"):
        action.complete = shtab.FILE  # type: ignore[attr-defined] # the same
    if shell == "zsh" and isinstance(action.metavar, str):
        action.metavar = action.metavar.replace(":", "\\:")  # a bare one would begin a command to run


def _candidates(kind: str) -> dict[str, object]:
    """For shtab: complete with the lines that a command prints."""
    command, function = CANDIDATES[kind], f"_wgdisco_{kind}"
    return {
        "bash": function,
        "zsh": function,
        "fish": f"({command})",
        "preamble": {
            "bash": f'{function}() {{\n  compgen -W "$({command})" -- "$1"\n}}\n',
            "zsh": f'{function}() {{\n  local -a found\n  found=(${{(f)"$({command})"}})\n  compadd -a found\n}}\n',
        },
    }


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"wgdisco.cli.{command.replace('-', '_')}")


def _parsers() -> dict[str, argparse.ArgumentParser]:
    parsers = {name: argparse.ArgumentParser(prog=f"wgdisco {name}") for name in COMMANDS}
    for name, parser in parsers.items():
        _module(name).configure(parser)
    return parsers


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every option and argument, those of the commands inside included."""
    for action in parser._actions:  # noqa: SLF001 - there is no public way, and shtab does the same
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for inner in action.choices.values():
                yield from _actions(inner)


if __name__ == "__main__":
    main()
