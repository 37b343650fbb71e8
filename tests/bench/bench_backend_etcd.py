"""etcd on loopback: put, get, push, the time to an error, a leader lost, what importing costs.

`python -m tests.bench.bench_backend_etcd [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

import asyncio
import json

from tests.backends.common import LATER
from tests.backends.etcdclient import opened
from tests.backends.etcdserver import VERSIONS, cluster, started
from tests.bench.stores import asked, blob, importing, measure, timed
from wgdisco.backends.etcd import Etcd
from wgdisco.testing import Author


async def losing(trouble: str) -> None:
    """The longest time between two acknowledged puts while the leader, that everybody talks to, goes."""
    author = Author()
    with cluster() as three:
        members = three.leader_first()
        async with opened(*members) as backend:
            for number in range(20):
                await backend.put(author.slot(number), blob(number), LATER)
            getattr(members[0], trouble)()
            times = await timed(100, lambda number: backend.put(author.slot(number), blob(number), LATER))
    print(json.dumps({"bench": f"etcd: longest put, leader {trouble}", "max_ms": round(max(times)), "n": len(times)}))


if __name__ == "__main__":
    importing("etcd", "wgdisco.backends.etcd, httpx2")
    for version, kind in VERSIONS.items():
        with started(kind=kind) as server:
            measure(f"etcd {version}", lambda: Etcd(endpoints=[server.url]), server, asked(), slots=100)
    for trouble in ("kill", "freeze"):
        asyncio.run(losing(trouble))
