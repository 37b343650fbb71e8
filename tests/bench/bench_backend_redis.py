"""Redis on loopback: put, get, put to push, the time to an error, what importing costs.

`python -m tests.bench.bench_backend_redis [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

from tests.backends.test_redis import RedisServer
from tests.bench.stores import asked, importing, in_folder, measure
from wgdisco.backends.redis import Redis

if __name__ == "__main__":
    importing("redis", "wgdisco.backends.redis, redis.asyncio")
    with in_folder(RedisServer) as server:
        measure("redis", lambda: Redis(url=server.url), server, asked())
