"""DNS, against BIND and Knot: the contract, what lies in the zone, rights, and the ways to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.backends.dnsservers import Bind, DNSServer, Knot
from wgdisco.backend import Backend
from wgdisco.backends.dns import DNS
from wgdisco.testing import BackendContract

SERVERS = {"bind": Bind, "knot": Knot}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DNSServer]:
    """A server of each make."""
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@asynccontextmanager
async def opened(server: DNSServer, **options: Any) -> AsyncIterator[DNS]:
    """A backend between `open` and `close`."""
    backend = server.backend(**options)
    try:
        await backend.open()
        yield backend
    finally:
        await backend.close()


class TestContract(BackendContract):
    """What every backend has to do, against both servers."""

    @pytest.fixture(autouse=True)
    def _server(self, server: DNSServer) -> None:
        self.control: DNSServer = server

    def backend(self) -> Backend:
        return self.control.backend()
