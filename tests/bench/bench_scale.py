"""The agent with 1, 100 and 10,000 peers of one etcd: the first pass, memory, idle processor time, a changed record.

`python -m tests.bench.bench_scale [PEERS…]` from the project's root. One line of JSON each. wireguard-go, etcd and the
agent share one host of the lab; etcd's files are in memory.
"""

from __future__ import annotations

import json
import sys
import tempfile

from tests.bench.hub import figures
from tests.lab.lab import Lab, LabUnavailable


def measure(count: int) -> None:
    """Print the figures of one number of peers."""
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        stun, hub = lab.stun(), lab.public("hub")
        hub.wireguard("wg0", "10.0.0.1/32")
        print(json.dumps({"bench": "agent", **hub.call(figures, count, stun.text, folder, timeout=900)}), flush=True)


if __name__ == "__main__":
    try:
        for number in [int(word) for word in sys.argv[1:]] or (1, 100, 10_000):
            measure(number)
    except LabUnavailable as reason:
        sys.exit(f"no lab here: {reason}")
