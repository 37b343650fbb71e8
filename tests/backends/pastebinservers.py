"""The pastebins of the tests: bepasty for real, and pastebin.com and GitHub's gists as they are documented."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, ClassVar

from tests.backends.pastebinfake import DEVELOPER, GIST, TOKEN, USER
from tests.support import Server, cannot_run
from wgdisco.backend import Secret
from wgdisco.backends.pastebin import Pastebin

__all__ = ["Bepasty", "Fake", "gist", "pastebin_com"]

CONF = """
STORAGE = 'filesystem'
STORAGE_FILESYSTEM_DIRECTORY = {items!r}
SECRET_KEY = 'for the tests'
PERMISSIONS = {{'writes': 'list,read,create,delete', 'reads': 'list,read', 'nothing': ''}}
DEFAULT_PERMISSIONS = ''
"""


class Fake(Server):
    """pastebin.com and api.github.com in one process."""

    program = sys.executable
    arguments: ClassVar[tuple[str, ...]] = (str(Path(__file__).with_name("pastebinfake.py")), "{port}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Bepasty(Server):
    """A bepasty server with tokens of different rights."""

    program = sys.executable
    arguments: ClassVar[tuple[str, ...]] = ("-m", "bepasty.cli.server", "--host", "127.0.0.1", "--port", "{port}")
    environment: ClassVar[dict[str, str]] = {"BEPASTY_CONFIG": "{folder}/bepasty.conf"}

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("bepasty") is None:
            cannot_run("bepasty is not installed; `pip install bepasty` installs it")
        super().__init__(folder)
        self.items = folder / "items"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        self.items.mkdir(exist_ok=True)
        (self.folder / "bepasty.conf").write_text(CONF.format(items=str(self.items)))

    def backend(self, token: str = "writes", **more: Any) -> Pastebin:
        """A backend for this server."""
        return Pastebin(service="bepasty", url=self.url, token=Secret(token), **more)


def pastebin_com(url: str, token: str = USER, key: str = DEVELOPER, **more: Any) -> Pastebin:
    """A backend for what serves as pastebin.com."""
    return Pastebin(service="pastebin.com", url=url, token=Secret(token), key=Secret(key), **more)


def gist(url: str, token: str = TOKEN, **more: Any) -> Pastebin:
    """A backend for what serves as GitHub."""
    return Pastebin(service="gist", url=url, gist=GIST, token=Secret(token), **more)
