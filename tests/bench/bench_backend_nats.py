"""NATS JetStream on loopback: put, get, put to push, the time to an error, what importing costs.

`python -m tests.bench.bench_backend_nats [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

from tests.backends.test_nats import NatsServer
from tests.bench.stores import asked, importing, in_folder, measure
from wgdisco.backends.nats import Nats

if __name__ == "__main__":
    importing("nats", "wgdisco.backends.nats, nats, nats.js.kv")
    with in_folder(NatsServer) as server:
        measure("nats", lambda: Nats(servers=[server.url]), server, asked())
