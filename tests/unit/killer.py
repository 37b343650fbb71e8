"""Kill a process at every line of the device code, one run per line.

usage: killer.py SOCKETS NAME PEER ENDPOINT (used by test_device_kill.py; the kernel's checks import `kill_at_every_line`)
"""

import os
import signal
import socket
import sys
from pathlib import Path

import wgdisco.device
from wgdisco.device.uapi import UserspaceDevice
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PublicKey

TRACED = str(Path(wgdisco.device.__file__).parent)


def kill_at_every_line(operation, check, step=1):
    """Run `operation` in a child that dies at its line 1, 2, 3 …, with `check()` after each; returns the number of lines."""
    line = 0
    while True:
        line += step
        child = os.fork()
        if child == 0:
            _run_until(line, operation)
        _, status = os.waitpid(child, 0)
        check()
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, f"the operation failed, see above ({line} lines)"
            return line
        assert os.WTERMSIG(status) == signal.SIGKILL, status


def _run_until(line, operation):
    left = line

    def on_line(_frame, event, _argument):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame, _event, _argument):
        return on_line if frame.f_code.co_filename.startswith(TRACED) else None

    try:
        sys.settrace(on_call)
        operation()
    except BaseException:  # noqa: BLE001 - a forked child goes no further
        sys.settrace(None)
        sys.excepthook(*sys.exc_info())
        os._exit(3)
    os._exit(0)


def lines_of(path, peer):
    """What must not change of the peer, straight from its program."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"get=1\n\n")
        answer = b""
        while not answer.endswith(b"\n\n"):
            answer += connection.recv(1 << 16)
    kept = ("preshared_key=", "allowed_ip=", "public_key=")
    blocks = answer.decode().split("\npublic_key=")
    (block,) = [block for block in blocks if block.startswith(peer.raw.hex())]
    return sorted(line for line in block.split("\n") if line.startswith(kept))


def main(sockets, name, key, endpoint):
    peer = PublicKey.parse(key)
    path = Path(sockets) / f"{name}.sock"
    before = lines_of(path, peer)

    def check():
        assert lines_of(path, peer) == before

    device = UserspaceDevice(name, Path(sockets))
    lines = kill_at_every_line(lambda: device.restart_peer(peer, Endpoint.parse(endpoint), 25), check)
    check()
    print(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
