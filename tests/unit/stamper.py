"""Stamps and prints until it is killed: python stamper.py FOLDER MILLISECONDS [NUMBER]."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from wgdisco.keys import PrivateKey
from wgdisco.state import State


def main() -> None:
    folder, now, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None
    state = State.open(PrivateKey(b"a" * 32).public, folder)
    print("ready", flush=True)
    for _ in count() if number is None else range(number):
        print(state.stamp(now), flush=True)
    print(*state.problems, flush=True)


if __name__ == "__main__":
    main()
