"""Write the agent's report and its metrics whenever something in them has changed, at most once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from wgdisco import notify, report
from wgdisco.metrics import metrics

__all__ = ["Reporter", "watchdog"]

WRITE = 1.0  # seconds between two looks at what there is to report
ANYWAY = 10.0  # seconds after which the report is written although nothing changed: it shows that the agent lives


class Reporter:
    """Writes state.json and, beside it, metrics.prom."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path, self.say = path, say
        self._before: report.Report | None = None
        self._failed = ""

    async def run(self, account: Callable[[], report.Report]) -> None:
        """Go on until cancelled."""
        while True:
            self.write(account())
            await asyncio.sleep(WRITE)

    def write(self, now: report.Report) -> None:
        """Write a report unless the last one says the same and is young; what is in the way is said once."""
        if not self._is_news(now):
            return
        self._before = now
        try:
            report.write(now, self.path)
            report.replace(self.path.with_name("metrics.prom"), metrics(now).encode(), 0o644)
        except OSError as error:
            if self._failed != str(error):
                self.say(f"{self.path}: {error.strerror}; `wgdisco status` shows nothing until that is mended")
            self._failed = str(error)

    def _is_news(self, now: report.Report) -> bool:
        before = self._before
        if before is None or now.written - before.written >= ANYWAY or now.written < before.written:
            return True
        written, before.written = before.written, now.written
        same, before.written = before == now, written
        return not same


async def watchdog() -> None:
    """Tell the service manager that we live, as often as it wants to hear it."""
    while True:
        notify.alive()
        await asyncio.sleep(notify.interval() or 60.0)
