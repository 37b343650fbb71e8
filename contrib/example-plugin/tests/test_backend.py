"""The backend keeps wgdisco's contract, over a real server that is frozen, killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wgdisco_example

import wgdisco
from wgdisco.testing import Author, BackendContract

SERVER = Path(__file__).with_name("server.py")
TOKEN = "s3cret"


class Control:
    """What a test can do to the server."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.restart()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.process = subprocess.Popen([sys.executable, str(SERVER), str(self.port), TOKEN])
        for _ in range(500):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("the server does not start")


@pytest.fixture(scope="module")
def server() -> Iterator[Control]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "no_proxy", "127.0.0.1")
        control = Control()
        yield control
        control.kill()


def store(server: Control, path: str = "records", token: str = TOKEN) -> wgdisco_example.Example:
    return wgdisco_example.Example(f"http://127.0.0.1:{server.port}/{path}", wgdisco.Secret(token))


class TestContract(BackendContract):
    """Every test of the contract, under the names it has there."""

    @pytest.fixture(autouse=True)
    def _server(self, server: Control) -> None:
        self.control = server

    def backend(self) -> wgdisco_example.Example:
        return store(self.control)


async def put(backend: wgdisco.Backend) -> None:
    try:
        await backend.open()
        await backend.put(Author().slot(), b"record", 60)
    finally:
        await backend.close()


def test_a_wrong_token_is_an_error(server: Control) -> None:
    with pytest.raises(OSError, match="HTTP Error 401"):
        asyncio.run(put(store(server, token="wrong")))


def test_a_busy_server_is_asked_when_it_wants(server: Control) -> None:
    with pytest.raises(wgdisco.RetryLater) as caught:
        asyncio.run(put(store(server, path="busy")))
    assert caught.value.seconds == 7


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected http"):
        wgdisco_example.Example("file:///etc/passwd")
