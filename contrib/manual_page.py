"""wgdisco(1) from the commands' parsers, in man(7): options that several commands share are described once."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

SHARED = 3  # commands that have an option in common before it moves to the section of its own
FILES = {
    "/etc/wgdisco/INTERFACE.toml": "The configuration; every key is optional.",
    "/var/lib/wgdisco": "What is remembered over restarts, by key; without root ~/.local/state/wgdisco.",
    "/run/wgdisco/INTERFACE/state.json": "What the agent says about itself.",
}


class Command(NamedTuple):
    """A command: its name, its parser and what it is for."""

    name: str
    parser: argparse.ArgumentParser
    text: str


class Option(NamedTuple):
    """An option or argument: how it is typed, the name of its value, and its help. Equal ones are the same."""

    names: tuple[str, ...]
    value: str
    text: str

    def __str__(self) -> str:
        value = f"\\fI{escaped(self.value)}\\fR"
        names = ", ".join(f"\\fB{escaped(name)}\\fR" for name in self.names)
        return f"{names} {value}" if names and self.value else names or value


def manual_page(program: str, version: str, summary: str, about: Iterable[str], commands: list[Command]) -> str:
    """The page; `about` are the paragraphs of the description."""
    shared = _shared(commands)
    lines = [
        '.\\" made by contrib/generate.py from the parsers of the commands: make contrib',
        f'.TH {program.upper()} 1 "" "{program} {version}" "User Commands"',
        *(".nh", ".ad l"),  # options are not broken at their hyphens
        *(".SH NAME", f"{program} \\- {escaped(summary)}"),
        *(".SH SYNOPSIS", f".B {program}", "[\\-h] [\\-V] \\fICOMMAND\\fR [\\fIOPTION\\fR...]"),
        *(".SH DESCRIPTION", *_paragraphs(about)),
        ".SH COMMANDS",
        *(line for command in commands for line in _described(program, command, shared)),
        ".SH SHARED OPTIONS",
    ]
    for title in dict.fromkeys(shared.values()):
        lines += [f".SS {escaped(title[:1].upper() + title[1:])}"]
        lines += _entries((str(option), option.text) for option, its in shared.items() if its == title)
    lines += [".SH FILES", *_entries((f"\\fI{escaped(path)}\\fR", text) for path, text in FILES.items())]
    lines += [".SH SEE ALSO", ".BR wg (8),", ".BR wg\\-quick (8),", ".BR systemctl (1)"]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text as roff prints it unchanged: backslashes, hyphens and quotes that are typed, no request at its start."""
    for plain, typed in (("\\", "\\e"), ("-", "\\-"), ("`", "\\(ga"), ("'", "\\(aq"), ("^", "\\(ha"), ("~", "\\(ti")):
        text = text.replace(plain, typed)
    return f"\\&{text}" if text.startswith(".") else text


def _paragraphs(texts: Iterable[str]) -> list[str]:
    """Paragraphs, each of one line in the source."""
    return "\n.PP\n".join(escaped(" ".join(text.split())) for text in texts).split("\n")


def _entries(entries: Iterable[tuple[str, str]]) -> list[str]:
    """A list of terms, which are roff already, and plain texts."""
    return [line for term, text in entries for line in (".TP", term, escaped(" ".join(text.split())))]


def _described(program: str, command: Command, shared: Mapping[Option, str]) -> list[str]:
    """A command's section, followed by those of the commands inside it."""
    name = f"{program} {command.name}"
    options = [option for _, option in _options(command.parser)]
    lines = [f".SS {escaped(name)}", *_paragraphs(command.text.split("\n\n"))]
    lines += _entries((str(option), option.text) for option in options if option not in shared)
    if common := [f"\\fB{escaped(option.names[-1])}\\fR" for option in options if option in shared]:
        lines += [".PP", f"Shared options: {', '.join(common)}"]
    for inner, parser, text in _inner(command.parser):
        lines += _described(name, Command(inner, parser, text), shared)
    return lines


def _inner(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to look at a parser
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            yield from ((name, inner, texts.get(name, "")) for name, inner in action.choices.items())


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, Option]]:
    """Options and arguments with the title of their group; without --help, which every command has."""
    for group in parser._action_groups:  # noqa: SLF001
        for action in group._group_actions:  # noqa: SLF001
            if action.help != argparse.SUPPRESS and not isinstance(
                action,
                argparse._HelpAction | argparse._SubParsersAction,  # noqa: SLF001
            ):
                text = parser._get_formatter()._expand_help(action) if action.help else ""  # noqa: SLF001
                yield group.title or "", Option(tuple(action.option_strings), _value(action), text)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    chosen = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    value = action.metavar if isinstance(action.metavar, str) else chosen
    return f"[{value}]" if action.nargs == "?" else f"{value}..." if action.nargs in ("*", "+") else value


def _shared(commands: list[Command]) -> dict[Option, str]:
    """The options that `SHARED` commands or more have word by word, each with the title to put it under."""
    titles: dict[Option, list[str]] = {}
    for command in commands:
        for title, option in _options(command.parser):
            if option.names:
                titles.setdefault(option, []).append(title)
    # an option may stand in a titled group of one command and in argparse's own of another
    named = {option: Counter(title for title in each if title != "options") for option, each in titles.items()}
    found = {
        option: named[option].most_common(1)[0][0] if named[option] else "other"
        for option, each in titles.items()
        if len(each) >= SHARED
    }
    order = sorted(dict.fromkeys(found.values()), key="other".__eq__)  # stable, with what has no title last
    return dict(sorted(found.items(), key=lambda item: order.index(item[1])))
