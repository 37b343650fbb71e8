"""What the README names exists, and what exists the README names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wgdisco import errors
from wgdisco.cli.main import COMMANDS, EPILOG
from wgdisco.config import Config, load
from wgdisco.plugins import built_in
from wgdisco.record import LIFETIME

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def section(title: str) -> str:
    """The text between a heading and the next one."""
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[str]:
    """The first cell of each row of the section's table."""
    cells = re.findall(r"^\| (`[^`]+`)[^|]*\|", section(title), re.MULTILINE)
    return [cell.strip("`") for cell in cells]


def test_the_commands_are_those_there_are() -> None:
    assert sorted(row.split()[1] for row in rows("Commands")) == sorted(COMMANDS)


def test_the_backends_are_those_there_are() -> None:
    assert sorted(rows("Backends")) == built_in()


def test_every_extra_is_a_backend_and_every_extra_is_in_all() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    everything, _ = extras.pop("all")  # upnp has no wheel for every machine, so it is named by itself
    no_backends = {"doh", "lexicon", "upnp", "testing"}  # parts of dns, a source's, for plugin authors
    assert set(extras) - no_backends <= set(built_in())
    assert set(re.search(r"\[(.*)\]", everything)[1].split(",")) == set(extras) - {"lexicon", "upnp", "testing"}


def test_the_exit_codes_are_those_of_the_errors() -> None:
    known = {each.exit_code for each in vars(errors).values() if isinstance(each, type)}
    for text in (README, EPILOG):
        told = {
            int(code)
            for code in re.findall(r"\b(\d+) (?:done|no valid|usage|no backend|interface|bug)", " ".join(text.split()))
        }
        assert told == known | {0}


def test_the_configuration_example_is_valid_and_complete(tmp_path) -> None:
    example = re.search(r"```toml\n(.*?)```", section("Configuration"), re.DOTALL)[1]
    path = tmp_path / "wg0.toml"
    path.write_text(example)
    config = load(path)
    assert config.lifetime == LIFETIME
    keys = {*Config.__struct_fields__} - {"places"}
    assert {key for key in keys if re.search(rf"^\[?{key}\b", example, re.MULTILINE)} == set(keys)


@pytest.mark.parametrize("text", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_examples_use_what_is_public(text: str) -> None:
    import wgdisco

    names = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute) and is_ours(node)}
    assert names <= set(wgdisco.__all__)


def is_ours(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "wgdisco"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_files_and_constants_named_in_the_readme_exist() -> None:
    paths = re.findall(r"`((?:wgdisco|docs|contrib|tests)/[\w./-]+)`", README)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_options_named_in_the_readme_exist() -> None:
    words = set(re.findall(r"`(--[a-z-]+)", README))
    helps = "".join(
        subprocess.run(
            [sys.executable, "-m", "wgdisco", name, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for name in COMMANDS
    )
    assert {word for word in words if word not in helps} == set()


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert [name for name in re.findall(r"make (\w+)  ", README) if f"\n{name}:" not in makefile] == []
