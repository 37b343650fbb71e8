"""Multicast DNS on loopback: put, get, put to push, what importing costs; there is no server to lose.

`python -m tests.bench.bench_backend_lan [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

import asyncio
import time

from tests.backends.common import LATER, opening
from tests.bench.stores import asked, blob, figures, importing, report
from wgdisco.backends.lan import Lan
from wgdisco.testing import Author


def on_loopback() -> Lan:
    return Lan(interfaces=["lo"])


async def first_answers(count: int) -> list[float]:
    """Milliseconds from a question to its first answer, without the grace in which others may answer."""
    author, times = Author(), []
    async with opening(on_loopback()) as writer:
        for number in range(count):
            await writer.put(author.slot(number), blob(number), LATER)
        await asyncio.sleep(2.5)  # what was just announced is not repeated within a second
        async with opening(on_loopback()) as reader:
            for name in [f"{author.reading(number).text}._wgdisco._udp.local." for number in range(count)]:
                with reader._air.listening() as news:
                    start = time.perf_counter()
                    await reader._air.ask([name], unicast=False)
                    while not reader._air.heard(name):
                        news.clear()
                        await news.wait()
                    times.append(1000 * (time.perf_counter() - start))
    return times


if __name__ == "__main__":
    importing("lan", "wgdisco.backends.lan, zeroconf.asyncio")
    report("lan: first answer", asyncio.run(first_answers(asked(20))))
    asyncio.run(figures("lan", on_loopback, asked(20)))
