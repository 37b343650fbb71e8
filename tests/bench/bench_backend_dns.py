"""DNS on loopback, BIND and Knot: put, get, put to watch, the time to an error, what importing costs.

`python -m tests.bench.bench_backend_dns [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

import asyncio

from tests.backends.common import LATER, opening
from tests.backends.dnsservers import Bind, DNSServer, Knot
from tests.bench.stores import asked, blob, importing, in_folder, measure, report, timed
from wgdisco.testing import Author


async def again(server: DNSServer, count: int) -> None:
    """A put of what is there already."""
    author = Author()
    async with opening(server.backend()) as backend:
        await backend.put(author.slot(), blob(0), LATER)
        work = timed(count, lambda _: backend.put(author.slot(), blob(0), LATER))
        report(f"dns {server.program}: refresh", await work)


if __name__ == "__main__":
    importing("dns", "wgdisco.backends.dns, dns.asyncquery, dns.update")
    importing("doh", "wgdisco.backends.dns, dns.asyncquery, dns.update, httpx2, h2")
    for kind in (Bind, Knot):
        with in_folder(kind) as server:
            asyncio.run(again(server, asked()))
            measure(f"dns {server.program}", server.backend, server, asked(), poll=0.1)
