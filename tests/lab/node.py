"""A node of the lab: one network with a /run, /var/lib and /etc of its own, and the programs that run in it."""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.lab import holder
from tests.lab.space import HERE, PATH, LabError, Space, wait_until

__all__ = ["Node", "Process"]


class Process(subprocess.Popen[str]):
    """A program in a node. Signals go to the program itself, not to the nsenter(1) that started it."""

    @property
    def inner(self) -> int:
        """The program's pid as seen from the tests; 0 once it has ended."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        found: list[str] = []

        def started() -> bool:
            found[:] = children.read_text().split()
            return bool(found) or self.poll() is not None

        with suppress(FileNotFoundError, ProcessLookupError):
            wait_until(started, "nsenter has started its program")
        return int(found[0]) if found else 0

    def send_signal(self, sig: int) -> None:
        """Send a signal to the program; nothing happens when it has ended already."""
        if inner := self.inner:
            with suppress(ProcessLookupError):
                os.kill(inner, sig)
        if sig == signal.SIGCONT and self.poll() is None:
            os.kill(self.pid, sig)  # nsenter stops together with its program


class Node:
    """One network namespace and what belongs to it. Interfaces are named after it, hence at most 13 letters."""

    def __init__(self, space: Space, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,12}", name):
            raise LabError(f"node name {name!r}: expected a letter and up to 12 letters, digits or hyphens")
        self.space = space
        self.name = name
        self.pid, self.inner = space.make()

    def command(self, *argv: str | Path) -> list[str]:
        """The argv that runs `argv` in this node, in the folder /, for whoever starts processes himself."""
        prefix = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid"]
        prefix += ["--user", "--preserve-credentials"] if self.space.user else []
        return [*prefix, "--", *map(str, argv)]

    def popen(
        self,
        *argv: str | Path,
        env: Mapping[str, str] | None = None,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.PIPE,
        stderr: Any = None,
    ) -> Process:
        """Start a program here, in the folder /, with `env` added to the environment; pipes are text."""
        environment = {**os.environ, "PATH": PATH, "HOME": "/run/home", **(env or {})}
        process = Process(
            self.command(*argv),
            text=True,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            process_group=0,  # so that the kernel ends a stopped nsenter when the tests are killed, and Ctrl-C is ours
        )
        self.space.programs.append(process)
        return process

    def run(
        self,
        *argv: str | Path,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; raises LabError with its words if it fails and `check`, or after `timeout` s."""
        words = f"{self.name}: {' '.join(map(str, argv))}"
        pipe = subprocess.PIPE
        process = self.popen(*argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise LabError(f"{words}: not done in {timeout:g} s\n{out}{err}") from None
        self.space.programs.remove(process)
        if check and process.returncode:
            raise LabError(f"{words}: exit {process.returncode}\n{out}{err}{stdin}")
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def wgdisco(self, *argv: str | Path, **options: Any) -> Process:
        """Start the `wgdisco` of this source tree here, as a child process (options of `popen`)."""
        return self.popen(sys.executable, "-m", "wgdisco", *argv, **options)

    def ip(self, *lines: str) -> None:
        """Run ip(8) commands, all in one process."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def nft(self, rules: str) -> None:
        """Load nftables rules."""
        self.run("nft", "-f", "-", stdin=rules)

    def sysctl(self, *settings: str) -> None:
        """Set sysctls of this network, each as `net/ipv4/ip_forward=1`."""
        pairs = (setting.split("=") for setting in settings)
        self.run("sh", "-e", stdin="".join(f"echo {value} > /proc/sys/{name}\n" for name, value in pairs))

    def socket(self, kind: int = socket.SOCK_DGRAM, family: int = socket.AF_INET, protocol: int = 0) -> socket.socket:
        """A socket of this network in the calling process: the simplest way to send something from here."""
        return self.space.open(self.inner, family, kind, protocol)

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Move the calling thread into this network meanwhile; only as root, where `call` and `socket` always work."""
        if self.space.user:
            raise LabError("a thread cannot enter a lab in a user namespace: use node.call() or node.socket()")
        with Path(f"/proc/{self.pid}/ns/net").open("rb") as network, holder.entered(network.fileno()):
            yield

    def call(self, function: Callable[..., Any], *arguments: Any, timeout: float = 60) -> Any:
        """Run a function, or coroutine function, in a process here; its result is returned, its exception raised.

        Function, arguments and result are pickled, so the function must be one that can be imported.
        """
        with tempfile.TemporaryDirectory() as folder:
            question, answer = Path(folder, "question"), Path(folder, "answer")
            question.write_bytes(pickle.dumps((sys.path, pickle.dumps((function, arguments)))))
            self.run(sys.executable, HERE / "call.py", question, answer, timeout=timeout)
            value, error = pickle.loads(answer.read_bytes())
        if error is not None:
            raise error
        return value

    def path(self, inside: str | Path) -> Path:
        """Where a file of this node, given by its absolute path there, is found from outside."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def ping(self, address: Any, seconds: float = 5) -> bool:
        """Whether an echo request is answered within 0.3 s, tried again for `seconds`."""
        deadline = time.monotonic() + seconds
        while self.run("ping", "-n", "-q", "-c", "1", "-W", "0.3", str(address), check=False).returncode:
            if time.monotonic() > deadline:
                return False
        return True
