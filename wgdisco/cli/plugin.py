"""Write a package of your own that adds a store to wgdisco: `wgdisco plugin new NAME` makes ./wgdisco-NAME."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

__all__ = ["configure", "package", "run"]

TEMPLATES = Path(__file__).parent / "templates" / "plugin"
LONGEST = 40  # characters of a name


def configure(parser: argparse.ArgumentParser) -> None:
    """The one thing it does, with its name."""
    actions = parser.add_subparsers(metavar="new", required=True)
    new = actions.add_parser("new", help="write a package with a backend, its tests and all they need")
    new.add_argument("name", metavar="NAME", help="what users will type after --backend: lower-case letters, digits, -")
    parser.epilog = "docs/plugins.md goes on from there"


def run(options: argparse.Namespace) -> int:
    """Write the package and say what to do next; raises UsageError for a name or a folder that cannot be used."""
    from wgdisco.errors import UsageError

    name = options.name
    _check(name)
    folder = Path(f"wgdisco-{name}")
    files = dict(package(name))
    try:
        folder.mkdir()
        for path, text in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except FileExistsError as error:
        raise UsageError(
            f"'{folder}' is there already and is left as it is; remove it or choose another name"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write '{error.filename}': {error.strerror}; go to a folder of your own") from error
    for path in files:
        print(f"{folder}/{path}")
    print(f"\nIt works as it is; see for yourself:\n\n    cd {folder}\n    python -m pytest")
    return 0


def package(name: str) -> Iterator[tuple[str, str]]:
    """The files of the package for a backend of that name: path within its folder, and text."""
    from string import Template

    words = {"name": name, "module": f"wgdisco_{name.replace('-', '_')}", "backend": _class(name)}
    for template in sorted(TEMPLATES.rglob("*.txt")):
        path = str(template.relative_to(TEMPLATES)).removesuffix(".txt")
        yield (
            f"{words['module']}.py" if path == "backend.py" else path,
            Template(template.read_text(encoding="utf-8")).substitute(words),
        )


def _class(name: str) -> str:
    from keyword import iskeyword

    word = "".join(part.capitalize() for part in name.split("-"))
    return f"{word}Store" if iskeyword(word) else word


def _check(name: str) -> None:
    """Raise UsageError unless a backend can have this name."""
    import re

    from wgdisco.errors import UsageError
    from wgdisco.plugins import listed

    if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or name.startswith("wgdisco-") or len(name) > LONGEST:
        expected = f"expected lower-case letters, digits and dashes, a letter first, at most {LONGEST}"
        plain = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-0123456789").removeprefix("wgdisco-")[:LONGEST]
        raise UsageError(
            f"{name!r} cannot be the name of a backend: {expected}" + (f"; did you mean {plain!r}?" if plain else "")
        )
    for each in listed():
        if each.name == name:
            raise UsageError(f"there is a backend {name!r} already ({each.origin}); choose another name")
