"""A process of a host that has its port forwarded, told by its input what to do next: find, close, or move its clock.

`forwarded.py PORT SECRET [CHECK [FWMARK]]`: CHECK are the seconds between two questions whether the router still has
the mapping, empty for what is usual.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from wgdisco.sources import _portmap_router
from wgdisco.sources.portmap import PortmapSource

__all__ = ["main"]


async def main(port: str, secret: str, check: str = "", fwmark: str = "0") -> None:
    """Answer each line of input with a line of JSON."""
    if check:
        _portmap_router.CHECK = dict.fromkeys(_portmap_router.CHECK, float(check))
    ahead = 0.0
    source = PortmapSource(
        int(port),
        fwmark=int(fwmark),
        secret=secret.encode(),
        clock=lambda: time.monotonic() + ahead,
    )
    for line in sys.stdin:
        match line.split():
            case ["find", deadline]:
                where = await source.find(float(deadline))
                found = [(str(each.endpoint), each.detail, each.kind) for each in where.found]
                print(json.dumps([found, where.problems]), flush=True)
            case ["close"]:
                await source.close()
                print("[]", flush=True)
            case ["later", seconds]:
                ahead += float(seconds)
                print("[]", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
