"""mosquitto for tests: retained messages on disk, and if wanted users, rights and TLS."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path
from typing import ClassVar

from tests.support import Server, require_binary
from wgdisco.backend import Slot

__all__ = ["Mosquitto", "slot"]


def slot(name: object) -> Slot:
    """A slot of that name, for reading and writing."""
    digest = hashlib.blake2b(str(name).encode(), digest_size=20).digest()
    return Slot(digest, base64.b32encode(digest).decode().lower(), bytes(32))


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
