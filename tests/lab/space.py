"""The holder process of a lab seen from the tests: start it, ask it for namespaces and sockets, end it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

__all__ = ["HERE", "PATH", "TOOLS", "LabError", "LabUnavailable", "Space", "missing_tools", "wait_until"]

HERE = Path(__file__).parent
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
TOOLS = {  # what a lab runs, and the Debian package it is in
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ping": "iputils-ping",
    "unshare": "util-linux",
    "wireguard-go": "wireguard-go",
}


class LabError(Exception):
    """Something in the lab did not do what it was told; the message has the command and its words."""


class LabUnavailable(LabError):  # noqa: N818 - named after what the tests learn
    """This machine cannot run a lab; the message says what is missing."""


class Answer(NamedTuple):
    """What the holder said, the pid of the process that said it as seen from here, and the descriptors it sent."""

    content: dict[str, Any]
    pid: int
    descriptors: list[int]


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Poll `condition` every 5 ms until it is true; raises LabError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not so after {seconds:g} s")
        time.sleep(0.005)


def missing_tools() -> list[str]:
    """The programs a lab needs and this machine does not have."""
    return [tool for tool in TOOLS if not shutil.which(tool, path=PATH)]


class Space:
    """The namespaces of one lab; `user`: inside a user namespace, which needs no privilege.

    Raises LabUnavailable with the reason when this machine does not allow it.
    """

    def __init__(self, user: bool) -> None:
        _check_machine()
        self.user = user
        self.programs: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._channel.settimeout(20)
        with tempfile.TemporaryFile("w+") as errors:
            with theirs:
                self._holder = _start_holder(user, theirs, errors)
            try:
                self._answer()
            except LabError as error:
                self.close()
                errors.seek(0)
                raise LabUnavailable(f"no namespaces: {errors.read().strip() or error}") from None

    def make(self) -> tuple[int, int]:
        """New namespaces: the pid of the process that owns them, as seen from here and as seen in the lab."""
        try:
            answer = self._ask([])
        except LabError as error:
            raise LabUnavailable(f"no namespaces: {error}") from None
        return answer.pid, int(answer.content["inner"])

    def open(self, inner: int, family: int, kind: int, protocol: int) -> socket.socket:
        """A socket in the network of `inner`; raises LabError with the system's reason."""
        return socket.socket(fileno=self._ask([inner, family, kind, protocol]).descriptors[0])

    def close(self) -> None:
        """End the holder, and with it everything in the lab."""
        self._channel.close()
        self._holder.wait()
        for program in self.programs:
            _collect(program)

    def _ask(self, request: list[int]) -> Answer:
        with self._lock:
            self._channel.send(json.dumps(request).encode())
            return self._answer()

    def _answer(self) -> Answer:
        size = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4)
        data, ancillary, _, _ = self._channel.recvmsg(4096, size)
        if not data:
            raise LabError("the holder of the namespaces has ended")
        numbers = {kind: int.from_bytes(content[:4], sys.byteorder) for _, kind, content in ancillary}
        descriptors = [numbers[socket.SCM_RIGHTS]] if socket.SCM_RIGHTS in numbers else []
        content = json.loads(data)
        if "error" in content:
            raise LabError(content["error"])
        return Answer(content, numbers[socket.SCM_CREDENTIALS], descriptors)


def _collect(program: subprocess.Popen[str]) -> None:
    """Reap the nsenter of a program that has ended with its namespace, and close its pipes."""
    if program.poll() is None:
        os.kill(program.pid, signal.SIGKILL)  # it may be stopped, as its program was
    program.wait()
    for pipe in (program.stdin, program.stdout, program.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def _check_machine() -> None:
    if missing := missing_tools():
        packages = " ".join(sorted({TOOLS[tool] for tool in missing}))
        raise LabUnavailable(f"{', '.join(missing)} not found; install with: apt install {packages}")
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        raise LabUnavailable(f"/dev/net/tun: {error.strerror}, and wireguard-go needs it") from None


def _start_holder(user: bool, channel: socket.socket, errors: IO[str]) -> subprocess.Popen[bytes]:
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net"]
    command += ["--user", "--map-root-user"] if user else []
    command += ["--", sys.executable, "-IS", str(HERE / "holder.py")]
    environment = {"PATH": PATH}
    return subprocess.Popen(
        command, stdin=channel.fileno(), stdout=subprocess.DEVNULL, stderr=errors, env=environment, process_group=0
    )
