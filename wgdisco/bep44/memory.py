"""The nodes that answered last time, in a small text file that may be lost or spoilt."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wgdisco.endpoint import Endpoint
from wgdisco.errors import UsageError

__all__ = ["Memory", "remembered_in"]

MOST = 64  # nodes that are remembered
LARGEST = 16384  # bytes that are read
HEAD = "# wgdisco: nodes of the DHT that answered; may be deleted"


def remembered_in(folder: Path | None, name: str, bootstrap: Iterable[str]) -> Path | None:
    """The file for one network, told by its bootstrap nodes: those of another one must never see our records."""
    told = hashlib.blake2b("\n".join(sorted(set(bootstrap))).encode(), digest_size=4).hexdigest()
    return None if folder is None else folder / f"{name}-{told}"


@dataclass(frozen=True, slots=True)
class Memory:
    """Endpoints of up to 64 nodes, the reliable ones first, and the id (20 bytes) of a storing node."""

    endpoints: tuple[Endpoint, ...] = ()
    identity: bytes | None = None

    @classmethod
    def load(cls, path: Path | None) -> Memory:
        """What the file says; lines that make no sense are skipped, and no readable file is an empty memory."""
        identity: bytes | None = None
        endpoints: dict[Endpoint, None] = {}
        for line in _lines(path):
            word, _, rest = line.partition(" ")
            if word == "id" and len(rest) == 40:
                with suppress(ValueError):
                    identity = bytes.fromhex(rest)
                continue
            with suppress(UsageError):
                endpoints[Endpoint.parse(line)] = None
        return cls(tuple(endpoints)[:MOST], identity)

    def save(self, path: Path | None) -> None:
        """Write the file in one step, readable by its owner alone; a disk that takes nothing is no reason to fail."""
        if path is None:
            return
        told = [HEAD, *([f"id {self.identity.hex()}"] if self.identity else []), *map(str, self.endpoints[:MOST])]
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.touch(mode=0o600)
            fresh.write_text("\n".join(told) + "\n")
            fresh.replace(path)

    @classmethod
    def of(cls, endpoints: Iterable[Endpoint], identity: bytes | None = None) -> Memory:
        """The first 64 endpoints."""
        return cls(tuple(endpoints)[:MOST], identity)


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            return file.read(LARGEST).decode(errors="replace").splitlines()
    except OSError:
        return []
