"""WireGuard peers find each other with no signalling server: the WireGuard public key is the address.

```python
import asyncio
import wgdisco

async def main() -> None:
    here = wgdisco.Candidate(wgdisco.Kind.MAPPED, wgdisco.Endpoint.parse("192.0.2.7:51820"))
    async with wgdisco.open_node({"folder": {"path": "/srv/wgdisco"}}, private) as node:
        await node.publish([here], node.readers(wgdisco.Scope.KEY, []))     # what every store made of it
        finding = await node.find("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=")
        print(finding.record.candidates)
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wgdisco.audience import Scope
    from wgdisco.backend import Backend, RetryLater, Secret, Slot, from_text, to_text
    from wgdisco.blocking import BlockingBackend
    from wgdisco.endpoint import Endpoint
    from wgdisco.hookspecs import hookimpl
    from wgdisco.keys import PrivateKey, PublicKey
    from wgdisco.node import Node, open_node
    from wgdisco.record import Candidate, Kind, Record

__version__ = "0.1.0"
__all__ = [
    "Backend",
    "BlockingBackend",
    "Candidate",
    "Endpoint",
    "Kind",
    "Node",
    "PrivateKey",
    "PublicKey",
    "Record",
    "RetryLater",
    "Scope",
    "Secret",
    "Slot",
    "from_text",
    "hookimpl",
    "open_node",
    "to_text",
]
_HOMES = {
    "audience": ("Scope",),
    "backend": ("Backend", "RetryLater", "Secret", "Slot", "from_text", "to_text"),
    "blocking": ("BlockingBackend",),
    "endpoint": ("Endpoint",),
    "hookspecs": ("hookimpl",),
    "keys": ("PrivateKey", "PublicKey"),
    "node": ("Node", "open_node"),
    "record": ("Candidate", "Kind", "Record"),
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use, so that `import wgdisco` stays cheap."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"wgdisco.{module}"), name)
    raise AttributeError(f"module 'wgdisco' has no attribute {name!r}")
