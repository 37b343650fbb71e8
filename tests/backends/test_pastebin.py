"""pastebin, over its three services: the contract; bepasty is real, the others are as they are documented."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.backends.pastebinservers import Bepasty, Fake, gist, pastebin_com
from wgdisco.backend import Backend
from wgdisco.testing import BackendContract

PREFIXES = itertools.count()


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    with Fake(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.fixture(scope="module")
def bepasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bepasty]:
    with Bepasty(tmp_path_factory.mktemp("bepasty")) as running:
        yield running


class TestPastebinCom(BackendContract):
    """The contract on pastebin.com's documented API."""

    @pytest.fixture(autouse=True)
    def _server(self, fake: Fake) -> None:
        self.control, self.prefix = fake, f"test-{next(PREFIXES)}-"

    def backend(self) -> Backend:
        return pastebin_com(self.control.url, prefix=self.prefix)


class TestGist(BackendContract):
    """The contract on a gist as GitHub documents it."""

    @pytest.fixture(autouse=True)
    def _server(self, fake: Fake) -> None:
        self.control, self.prefix = fake, f"test-{next(PREFIXES)}-"

    def backend(self) -> Backend:
        return gist(self.control.url, prefix=self.prefix)


class TestBepasty(BackendContract):
    """The contract on a bepasty server."""

    @pytest.fixture(autouse=True)
    def _server(self, bepasty: Bepasty) -> None:
        self.control, self.prefix = bepasty, f"test-{next(PREFIXES)}-"
        for each in bepasty.items.iterdir():
            each.unlink()

    def backend(self) -> Backend:
        return self.control.backend(prefix=self.prefix)
