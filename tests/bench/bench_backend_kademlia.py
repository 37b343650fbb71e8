"""A swarm of eight members on loopback: put, get, put to watch, the time to an error, what importing costs.

`python -m tests.bench.bench_backend_kademlia [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

from tests.backends.kademlianodes import SwarmServer
from tests.bench.stores import asked, importing, in_folder, measure
from wgdisco.backends.kademlia import Kademlia

if __name__ == "__main__":
    importing("kademlia", "wgdisco.backends.kademlia, wgdisco.backends._kademlia_member")
    with in_folder(SwarmServer) as server:
        known = [f"127.0.0.1:{port}" for port in server.ports[:2]]
        measure("kademlia", lambda: Kademlia(bootstrap=known, bind="127.0.0.1"), server, asked(), poll=0.1)
