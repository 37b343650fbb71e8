"""What tests need of the machine: binaries, free ports, server processes, and the environment that makes them required.

    class Etcd(Server):
        program, ports_needed = "etcd", 2
        arguments = ("--data-dir={folder}/data", "--listen-client-urls=http://127.0.0.1:{port}", …"{ports[1]}")

    @pytest.fixture
    def etcd(tmp_path):
        with Etcd(tmp_path) as server:       # its own folder and ports, ready when the port answers
            yield server                     # .port .freeze() .thaw() .kill() .restart()

CI set, or WGDISCO_LAB=require: what cannot run here is a failure instead of a skip.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, NoReturn, Self

import pytest

__all__ = ["Server", "cannot_run", "free_ports", "require_binary", "wait_for"]

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def cannot_run(reason: str, variable: str = "") -> NoReturn:
    """Skip the test with the reason; fail it where CI is set, or `variable` is set to "require"."""
    if os.environ.get("CI") or os.environ.get(variable) == "require":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_binary(name: str) -> str:
    """The path of a program, or the test is skipped (failed where CI is set)."""
    path = shutil.which(name, path=PATH)
    if path is None:
        cannot_run(f"{name} is not installed; `sh tests/setup.sh servers lab` installs it")
    return path


def free_ports(number: int = 1) -> list[int]:
    """So many ports of 127.0.0.1 that are free for TCP and UDP right now.

    They lie below those that the kernel gives to connections, which other tests make between our look and the server's.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    with ExitStack() as kept:
        while len(found) < number:
            place = ("127.0.0.1", random.SystemRandom().randrange(10_000, lowest) if lowest > 11_000 else 0)
            tcp = kept.enter_context(socket.socket())
            udp = kept.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            try:
                tcp.bind(place)
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            found.append(tcp.getsockname()[1])
    return found


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Poll `condition` every 20 ms until it is true; AssertionError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not so after {seconds:g} s"
        time.sleep(0.02)


class Server:
    """A server process of a test, in a folder and on ports of its own that stay the same over restarts.

    A subclass names the `program`, its `arguments` (with {folder}, {port} and {ports[N]}) and how many `ports` it
    takes, and may write files in `prepare` and say in `ready` when it serves. Start it in the main thread: the kernel
    ends it together with the thread that started it, so that killed tests leave nothing behind.
    """

    program: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]] = ()
    ports_needed: ClassVar[int] = 1
    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, folder: Path) -> None:
        self.path = require_binary(self.program)
        self.folder = folder
        self.ports = free_ports(self.ports_needed)
        self.log = folder / f"{Path(self.path).name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The first port."""
        return self.ports[0]

    @property
    def pid(self) -> int:
        """The pid of the running process; AssertionError when there is none."""
        assert self._process is not None, f"{self.program} is not running"
        return self._process.pid

    def prepare(self) -> None:
        """Write what the server reads at its start; called before each start."""

    def ready(self) -> bool:
        """Whether it serves: here, whether the first port accepts a connection."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self) -> None:
        """Start it and wait until it is ready; AssertionError with the end of its log when it is not."""
        assert self._process is None, f"{self.program} is running already"
        assert threading.current_thread() is threading.main_thread(), "start servers in the main thread"
        self.prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [require_binary("setpriv"), "--pdeathsig=KILL", self.path, *map(self._fill, self.arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **{name: self._fill(value) for name, value in self.environment.items()}},
            )
        try:
            wait_for(self._settled, f"{self.program} is ready")
            assert self._process.poll() is None, f"{self.program} has ended with {self._process.returncode}"
        except BaseException as error:
            self.kill()
            error.add_note(self.log.read_text(errors="replace")[-3000:])
            raise

    def _fill(self, text: str) -> str:
        return text.format(folder=self.folder, port=self.port, ports=self.ports)

    def _settled(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None or self.ready()

    def stop(self, seconds: float = 10) -> None:
        """End it in an orderly way: SIGTERM, and SIGKILL after `seconds`; nothing happens when it is not running."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, and wait for its end; nothing happens when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections are accepted by the kernel, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop it and start it again, with the same folder and ports."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        ended = self._process and self._process.poll()
        self.stop()
        assert ended is None, (
            f"{self.program} has ended by itself with {ended}: {self.log.read_text(errors='replace')[-3000:]}"
        )
