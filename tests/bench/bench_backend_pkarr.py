"""pkarr with a relay on loopback: put, get, put to watch, the time to an error, what importing costs.

`python -m tests.bench.bench_backend_pkarr [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

from tests.backends.pkarrrelay import Relay
from tests.bench.stores import asked, importing, in_folder, measure
from wgdisco.backends.pkarr import Pkarr

if __name__ == "__main__":
    importing("pkarr", "wgdisco.backends.pkarr, httpx2, dns.message, dns.rdtypes.ANY.TXT")
    with in_folder(Relay) as server:
        measure("pkarr", lambda: Pkarr(relays=[server.url]), server, asked(), poll=0.1)
