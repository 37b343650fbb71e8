"""A restart of a peer, killed at every line: the peer, its preshared key and its allowed-ips are always there."""

import subprocess
import sys
from pathlib import Path

from wireguard_go import box

from wgdisco.keys import PrivateKey

PEER = PrivateKey(bytes([5] * 32)).public
OTHER = PrivateKey(bytes([6] * 32)).public


def test_restart_killed_at_every_line_loses_nothing():
    with box("wg0") as running:
        running.configure(
            "wg0",
            f"""private_key={bytes([4] * 32).hex()}
public_key={PEER.raw.hex()}
preshared_key={bytes(range(32)).hex()}
allowed_ip=10.0.0.1/32
allowed_ip=fd00::1/128
public_key={OTHER.raw.hex()}
allowed_ip=10.0.0.0/24""",
        )
        other = running.peers("wg0")[OTHER.raw.hex()]
        killer = Path(__file__).with_name("killer.py")
        command = [sys.executable, killer, running.sockets, "wg0", str(PEER), "127.0.0.1:9"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 100, "the tracer saw no lines"
        assert running.peers("wg0")[OTHER.raw.hex()] == other
