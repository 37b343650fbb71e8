"""The stores there are, and with a NAME the options of one."""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this backend's options")
    parser.add_argument("--json", action="store_true", help="the list, or the options of NAME, as one object")


def run(options: argparse.Namespace) -> int:
    """List the backends without importing any, or show one."""
    return _show(options.name, as_json=options.json) if options.name else _list(as_json=options.json)


def _list(*, as_json: bool) -> int:
    from wgdisco.plugins import listed

    available = listed()
    if as_json:
        from wgdisco.cli.show import print_json

        rows = [{"name": each.name, "origin": each.origin, "missing": each.missing} for each in available]
        print_json({"version": 1, "backends": rows})
        return 0
    width = max(len(each.name) for each in available)
    for each in available:
        print(f"{each.name:{width}}  {each.missing or each.summary} ({each.origin})")
    print("\nwgdisco backends NAME shows the options of one; third parties: docs/plugins.md")
    return 0


def _show(name: str, *, as_json: bool) -> int:
    import inspect

    from wgdisco.plugins import find
    from wgdisco.plugins import options as options_of

    backend = find(name)
    text = (inspect.getdoc(backend) or "").strip()
    if as_json:
        from wgdisco.cli.show import print_json

        rows = [each._asdict() for each in options_of(backend)]
        print_json({"version": 1, "name": name, "text": text, "options": rows})
        return 0
    print(f"{name}: {text}\n")
    for option in options_of(backend):
        needed = "required" if option.required else f"default: {option.default}"
        print(f"  -o {option.name}=…  {option.type}, {needed}")
        if option.doc:
            print(f"      {option.doc}")
    return 0
