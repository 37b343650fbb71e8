"""HTTP on loopback, nginx: put, get, put to watch, the time to an error, what importing costs.

`python -m tests.bench.bench_backend_http [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

import asyncio

from tests.backends.common import LATER, opening
from tests.backends.httpservers import Nginx
from tests.bench.stores import asked, blob, importing, in_folder, measure, report, timed
from wgdisco.backends.http import Http
from wgdisco.testing import Author

SETTLED = 2.5  # seconds after which a modification time says that nothing was changed since


async def unchanged(server: Nginx, count: int) -> None:
    """Reading again what is known: the server answers 304."""
    author = Author()
    async with opening(Http(url=f"{server.url}/open/{{slot}}")) as backend:
        await backend.put(author.slot(), blob(0), LATER)
        await asyncio.sleep(SETTLED)
        await backend.get(author.reading())
        report("http: get, unchanged", await timed(count, lambda _: backend.get(author.reading())))


if __name__ == "__main__":
    importing("http", "wgdisco.backends.http, httpx2")
    with in_folder(Nginx) as server:
        asyncio.run(unchanged(server, asked()))
        measure("http", lambda: Http(url=f"{server.url}/open/{{slot}}"), server, asked(), poll=0.1)
