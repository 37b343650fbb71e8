"""`wgdisco connect`: seconds from the second command until both sides have a handshake, for each smoke cell of the lab."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.lab import Lab, LabUnavailable
from tests.lab.test_pairs import SMOKE, expected, pair, told

RUNS = 3
DELAYS = (0.0, 0.025, 0.05)  # seconds one way, on both sides


def once(first: str, second: str, delay: float, later: float) -> float:
    """One pair in a lab of its own; from the second command to the later of both handshakes."""
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        both = pair(lab, Path(folder), first, second)
        for host in both.hosts if delay else ():
            host.cable.delay(delay)
        waiting = both.connect(0)
        time.sleep(later)
        start = time.monotonic()
        results = [told(process, 60) for process in (both.connect(1), waiting)]
        took = time.monotonic() - start
        if any(code for code, _ in results):
            raise SystemExit("\n".join(out for _, out in results))
        return took


def main() -> None:
    """Print medians."""
    print("seconds from the second `connect` to both handshakes (store: folder; process start included)")
    for first, second in [cell for cell in SMOKE if expected(*cell)]:
        row = [statistics.median(once(first, second, delay, 1.5) for _ in range(RUNS)) for delay in DELAYS]
        print(
            f"{first:>9} {second:<9}",
            *(f"{took:6.2f} ({2000 * d:.0f} ms RTT each)" for took, d in zip(row, DELAYS, strict=True)),
        )


if __name__ == "__main__":
    try:
        main()
    except LabUnavailable as reason:
        sys.exit(f"no lab here: {reason}")
