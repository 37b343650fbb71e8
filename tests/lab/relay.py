"""A cable with latency: carries frames between two interfaces of its namespace, each after its due time.

`relay.py NEAR FAR`; standard input takes lines "DELAY JITTER" (seconds, one way), answered "ready" on standard output.
Frames keep their order. They travel with their virtio-net header, so that checksums and segments that a veth leaves to
the hardware stay that way, and no offload has to be switched off at either end.
"""

from __future__ import annotations

import heapq
import random
import select
import socket
import sys
import time
from contextlib import suppress
from itertools import count

__all__ = ["main"]

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23


def _open(interface: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.bind((interface, ETH_P_ALL))
    end.setblocking(False)
    return end


def main(near: str, far: str) -> None:
    """Carry frames until standard input closes."""
    left, right = _open(near), _open(far)
    other = {left: right, right: left}
    latest = {left: 0.0, right: 0.0}
    queue: list[tuple[float, int, socket.socket, bytes]] = []
    numbers = count()
    delay = jitter = 0.0
    while True:
        timeout = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        readable, _, _ = select.select([left, right, sys.stdin], [], [], timeout)
        if sys.stdin in readable:
            if not (line := sys.stdin.readline()):
                return
            delay, jitter = map(float, line.split())
            print("ready", flush=True)
        for source in {left, right}.intersection(readable):
            due = time.monotonic() + delay + random.uniform(-jitter, jitter)
            latest[source] = due = max(due, latest[source])
            heapq.heappush(queue, (due, next(numbers), other[source], source.recv(70000)))
        while queue and queue[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(queue)
            _send(end, frame)


def _send(end: socket.socket, frame: bytes) -> None:
    with suppress(OSError):  # a cable whose end is down or full drops the frame
        end.send(frame)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
