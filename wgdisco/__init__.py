"""WireGuard peers find each other with no signalling server: the WireGuard public key is the address."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wgdisco.backend import Backend as Backend
    from wgdisco.backend import RetryLater as RetryLater

__version__ = "0.1.0"
_PUBLIC = {"Backend": "backend", "RetryLater": "errors"}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> object:
    """Import a public name at its first use, so that `import wgdisco` stays cheap."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"wgdisco.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'wgdisco' has no attribute {name!r}")
