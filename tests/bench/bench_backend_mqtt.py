"""MQTT on loopback, mosquitto: put, get, push, fetch, and errors when the broker is down or frozen.

`python -m tests.bench.bench_backend_mqtt [COUNT]`. One line of JSON each: median and 95th percentile in milliseconds.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from tests.backends.mqttserver import Mosquitto, slot
from tests.bench.bench_backend_dns import BLOB, failing, import_cost, report, timed
from wgdisco.backends.mqtt import MQTT


async def pushes(writer: MQTT, reader: MQTT, count: int) -> list[float]:
    """Milliseconds from the beginning of a put to its arrival at a follower on another connection."""
    times: list[float] = []
    async with aclosing(reader.follow([slot("pushed")])) as changes:
        await anext(changes)
        for number in range(count):
            start = time.perf_counter()
            putting = asyncio.ensure_future(writer.put(slot("pushed"), b"%d" % number, 600))
            await anext(changes)
            times.append(1000 * (time.perf_counter() - start))
            await putting
    return times


async def measure(server: Mosquitto, count: int) -> None:
    writer, reader = (MQTT(host="127.0.0.1", port=server.port) for _ in range(2))
    for backend in (writer, reader):
        await backend.open()

    async def everything(_: int) -> None:
        assert len([each async for each in reader.fetch([slot(number) for number in range(100)])]) == 100

    report("mqtt: put, read back", await timed(count, lambda number: writer.put(slot(number % 100), BLOB, 600)))
    report("mqtt: get", await timed(count, lambda number: reader.get(slot(number % 100))))
    report("mqtt: get of nothing", await timed(count, lambda number: reader.get(slot(-1 - number))))
    report("mqtt: put to push", await pushes(writer, reader, count))
    report("mqtt: fetch of 100 slots", await timed(count // 10 or 1, everything))
    server.freeze()
    report("mqtt: error when frozen", await failing(lambda: reader.get(slot(0))))
    server.thaw()
    server.kill()
    report("mqtt: error when down", await failing(lambda: reader.get(slot(0))))
    for backend in (writer, reader):
        await backend.close()


def main(count: int) -> None:
    import_cost("mqtt", "aiomqtt, wgdisco.backends.mqtt")
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder)) as server:
        asyncio.run(measure(server, count))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
