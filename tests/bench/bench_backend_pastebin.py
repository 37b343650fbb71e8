"""pastebin's three services: put, get, put to watch, the time to an error, what importing costs.

`python -m tests.bench.bench_backend_pastebin [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

from tests.backends.pastebinservers import Bepasty, Fake, gist, pastebin_com
from tests.bench.stores import asked, importing, in_folder, measure

if __name__ == "__main__":
    importing("pastebin", "wgdisco.backends.pastebin, requests")
    with in_folder(Fake) as fake:
        measure("pastebin.com", lambda: pastebin_com(fake.url), fake, asked(40), poll=0.1)
    with in_folder(Fake) as fake:
        measure("gist", lambda: gist(fake.url), fake, asked(40), poll=0.1)
    with in_folder(Bepasty) as bepasty:
        measure("bepasty", bepasty.backend, bepasty, asked(40), poll=0.1)
