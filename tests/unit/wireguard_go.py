"""Real wireguard-go in namespaces of its own, reached by its sockets through /proc: the tests never leave theirs."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from wgdisco.device.uapi import UserspaceDevice

SCRIPT = """
mount -t tmpfs tmpfs /run && mkdir -p /run/wireguard && ip link set lo up || exit 1
for name in "$@"; do wireguard-go -f "$name" & done
echo started
exec cat  # until its input ends with the test, killed or not: then the namespace and all in it are gone
"""


class Box:
    """A mount, network and process namespace with one wireguard-go per interface."""

    def __init__(self, process):
        self.process = process
        self.sockets = Path(f"/proc/{process.pid}/root/run/wireguard")

    def device(self, name):
        return UserspaceDevice(name, self.sockets)

    def talk(self, name, request):
        """One UAPI exchange without any code of ours."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.sockets / f"{name}.sock"))
            connection.sendall(request.encode() + b"\n\n")
            answer = b""
            while not answer.endswith(b"\n\n"):
                answer += connection.recv(1 << 20)
        return answer.decode()

    def configure(self, name, request):
        answer = self.talk(name, f"set=1\n{request.strip()}")
        assert answer == "errno=0\n\n", answer

    def peers(self, name):
        """Public key -> the lines of that peer, sorted, straight from wireguard-go."""
        _, *blocks = ("\n" + self.talk(name, "get=1").rpartition("errno=")[0]).split("\npublic_key=")
        return {block.split("\n")[0]: sorted(filter(None, block.split("\n")[1:])) for block in blocks}

    def run(self, *command):
        target = f"--target={self.process.pid}"
        user = ["--user", "--preserve-credentials"] if os.geteuid() else []
        return subprocess.run(
            ["nsenter", target, *user, "--mount", "--net", *command], check=True, capture_output=True, text=True
        ).stdout


@contextmanager
def box(*names):
    """Run wireguard-go for each name; skips when that is not possible here (fails when CI is set)."""
    _need(*names)
    user = ["--map-root-user"] if os.geteuid() else []
    unshare = ["unshare", *user, "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    environment = {**os.environ, "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
    process = subprocess.Popen(
        [*unshare, "sh", "-c", SCRIPT, "sh", *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        if process.stdout.readline() != b"started\n":
            _cannot("namespaces may not be made here (unshare)")
        made = Box(process)
        _wait_for(made, names)
        yield made
    finally:
        process.kill()
        process.communicate()


def _need(*names):
    for program in ("unshare", "nsenter", "ip", "wireguard-go"):
        if shutil.which(program) is None:
            _cannot(f"{program} is not installed")
    if names and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        _cannot("/dev/net/tun is not accessible")


def _cannot(reason):
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _wait_for(made, names):
    deadline = time.monotonic() + 10
    while not all(made.device(name).answers() for name in names):
        assert time.monotonic() < deadline, "wireguard-go did not open its sockets"
        time.sleep(0.01)
