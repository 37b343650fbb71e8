"""mosquitto for tests: retained messages on disk, and if wanted users, rights and TLS."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.backends.common import opening
from tests.support import Server, require_binary
from wgdisco.backends.mqtt import MQTT

__all__ = ["Mosquitto", "opened"]


class Mosquitto(Server):
    """A broker; further lines of its configuration as arguments."""

    program = "mosquitto"
    arguments: ClassVar[tuple[str, ...]] = ("-c", "{folder}/conf")

    def __init__(self, folder: Path, *lines: str, users: dict[str, str] | None = None, acl: str = "") -> None:
        super().__init__(folder)
        self.lines = [*lines, f"allow_anonymous {str(not users).lower()}"]
        if users:
            passwords = folder / "passwords"
            passwords.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
            passwords.chmod(0o600)
            subprocess.run([require_binary("mosquitto_passwd"), "-U", passwords], check=True, capture_output=True)
            self.lines.append(f"password_file {passwords}")
        if acl:
            (folder / "acl").write_text(acl)
            self.lines.append(f"acl_file {folder}/acl")

    def prepare(self) -> None:
        """Write the configuration; without `user root` it could not read what root may read alone."""
        own = [
            f"listener {self.port} 127.0.0.1",
            "user root",
            "persistence true",
            f"persistence_location {self.folder}/",
            "autosave_on_changes true",
            "autosave_interval 1",
            "log_type error",
            "log_type warning",
        ]
        (self.folder / "conf").write_text("\n".join([*own, *self.lines, ""]))


@asynccontextmanager
async def opened(running: Mosquitto, /, **options: Any) -> AsyncIterator[MQTT]:
    """A backend between `open` and `close`, for at most 20 s: what should come and does not is a failure, too."""
    async with opening(MQTT(**{"host": "127.0.0.1", "port": running.port, **options})) as backend, asyncio.timeout(20):
        yield backend
