"""The house stands: imports go down only, `__all__` is true, and what costs time is imported late."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import wgdisco

LAYERS = (
    ("errors",),
    ("keys", "endpoint"),
    ("audience", "record", "freshness", "stun"),
    ("backend", "blocking", "bep44"),
    ("device", "sources", "policy", "state", "hookspecs", "backends"),
    (
        "alone",
        "budget",
        "checks",
        "connect",
        "discovery",
        "health",
        "store",
        "publication",
        "config",
        "keyfiles",
        "link",
        "options",
        "plugins",
        "report",
        "search",
        "metrics",
        "notify",
        "testing",
    ),
    ("node",),
    ("announce", "fleet", "guard", "outlook", "pulse", "seek", "session", "steady", "supervise", "tend", "upkeep"),
    ("look", "account", "agent", "duty", "footing", "once", "reporter"),
    ("cli", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
ROOT = Path(wgdisco.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a file imports, at the top or anywhere inside."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "wgdisco":
            names += [f"wgdisco.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("wgdisco.")} - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    own = RANK[room(path)]
    assert {name for name in imported(path) if name in RANK and RANK[name] > own} == set()


def test_every_room_has_a_layer() -> None:
    assert {room(path) for path in FILES} - set(RANK) == set()


def modules() -> list[str]:
    return [
        info.name
        for info in pkgutil.walk_packages([str(ROOT)], "wgdisco.")
        if not info.ispkg or info.name in ("wgdisco.device", "wgdisco.sources", "wgdisco.testing")
    ]


@pytest.mark.parametrize("name", modules())
def test_all_names_exist_and_are_sorted(name: str) -> None:
    module = importlib.import_module(name)
    names = list(module.__all__)
    assert names == sorted(names, key=lambda each: (each.upper() != each, each.islower(), each)) or names == sorted(
        names
    )
    assert [each for each in names if not hasattr(module, each)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_begin_with_what_they_are_for(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or (ast.get_docstring(ast.parse(text)) or "").split("\n")[0].strip()


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


HEAVY = {"asyncio", "nacl", "msgspec", "pluggy", "pyroute2", "sqlite3", "importlib.metadata", "logging"}


def test_import_wgdisco_is_cheap() -> None:
    assert loaded_by("import wgdisco") & HEAVY == set()


@pytest.mark.parametrize("words", [["--help"], ["publish", "--help"], ["genkey"]], ids=" ".join)
def test_help_imports_no_library(words: list[str]) -> None:
    """Neither asyncio nor any backend is loaded before a command really runs."""
    code = f"from wgdisco.cli.main import main\ntry:\n    main({words!r})\nexcept SystemExit:\n    pass"
    loaded = loaded_by(code)
    assert loaded & HEAVY == set()
    assert not any(name.startswith("wgdisco.backends.") for name in loaded)
