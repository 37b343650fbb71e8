"""Start-up: `wgdisco --help` and a cold `resolve` from a folder, against Python itself, as whole processes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from pathlib import Path

from wgdisco.keys import PrivateKey

RUNS = 21


def once(words: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Run all commands in turn, so that a slow moment of the machine hits each of them, and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        shelf, key = Path(folder) / "shelf", Path(folder) / "key"
        shelf.mkdir()
        key.touch(0o600)
        key.write_text(b64encode(b"b" * 32).decode())
        environment = os.environ | {"STATE_DIRECTORY": folder, "PYTHONPYCACHEPREFIX": f"{folder}/compiled"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
        wgdisco = [sys.executable, "-m", "wgdisco"]
        store = ["-b", "folder", "-o", f"path={shelf}"]
        publish = [*wgdisco, "publish", "--private-key-file", str(key), "--to", "key", "-e", "192.0.2.1:1", *store]
        subprocess.run(publish, env=environment, check=True, stdout=subprocess.DEVNULL)
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import asyncio, nacl.bindings, msgspec'": [
                sys.executable,
                "-c",
                "import asyncio, nacl.bindings, msgspec",
            ],
            "wgdisco --help": [*wgdisco, "--help"],
            "wgdisco resolve (folder)": [*wgdisco, "resolve", str(PrivateKey(b"b" * 32).public), "--short", *store],
            "wgdisco publish (folder)": publish,
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for words in commands.values():
            once(words, environment)
        for _ in range(RUNS):
            for name, words in commands.items():
                times[name].append(once(words, environment))
    medians = {name: statistics.median(each) for name, each in times.items()}
    bare, base = list(medians.values())[:2]
    for name, median in medians.items():
        print(f"{name:52} {1000 * median:6.1f} ms   {median / bare:5.1f} x bare   {median / base:4.2f} x libraries")


if __name__ == "__main__":
    main()
