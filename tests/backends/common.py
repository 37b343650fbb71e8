"""What the tests of every backend share: a slot of a name, a lifetime, and a backend between `open` and `close`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from wgdisco.backend import Backend, Slot

__all__ = ["LATER", "opening", "slot"]

LATER = 600  # a lifetime in seconds that no test sees the end of
B = TypeVar("B", bound=Backend)


def slot(name: object) -> Slot:
    """A slot of that name, for reading and writing."""
    digest = hashlib.blake2b(str(name).encode(), digest_size=20).digest()
    return Slot(digest, base64.b32encode(digest).decode().lower(), bytes(32))


@asynccontextmanager
async def opening(backend: B) -> AsyncIterator[B]:
    """Open a backend, and close it in the end, also when opening failed."""
    try:
        await backend.open()
        yield backend
    finally:
        await backend.close()
