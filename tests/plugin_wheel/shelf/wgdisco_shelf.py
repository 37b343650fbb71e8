"""A third party's backend: one text file for each slot, written with nothing but wgdisco's public names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import wgdisco


@dataclass
class Shelf(wgdisco.Backend):
    """One text file for each slot, in a folder."""

    name = "shelf"
    path: Path
    """The folder."""
    label: wgdisco.Secret = field(default_factory=wgdisco.Secret)
    """What every file begins with."""

    async def open(self) -> None:
        """Make the folder."""
        self.path.mkdir(exist_ok=True)

    async def put(self, slot: wgdisco.Slot, blob: bytes, lifetime: int) -> None:
        """Write the slot's file."""
        self._file(slot).write_text(f"{self.label.reveal()}:{lifetime}:{wgdisco.to_text(blob)}")

    async def get(self, slot: wgdisco.Slot) -> list[bytes]:
        """Read it."""
        file = self._file(slot)
        blob = wgdisco.from_text(file.read_text().rpartition(":")[2]) if file.exists() else None
        return [] if blob is None else [blob]

    async def remove(self, slot: wgdisco.Slot) -> None:
        """Delete it."""
        self._file(slot).unlink(missing_ok=True)

    def _file(self, slot: wgdisco.Slot) -> Path:
        return self.path / slot.text


@wgdisco.hookimpl
def wgdisco_backends() -> list[type[wgdisco.Backend]]:
    """The backend of this package."""
    return [Shelf]
