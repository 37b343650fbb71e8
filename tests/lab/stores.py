"""Stores on a host of the lab's internet, which agents reach by TCP as people's agents do: etcd, redis, NATS, MQTT."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.space import wait_until
from tests.lab.stations import Host
from tests.support import require_binary

__all__ = ["STORES", "store_on"]

Words = tuple[list[str], list[str]]  # the server's command line, and what makes wgdisco use it


def _etcd(address: str, folder: Path) -> Words:
    url = f"http://{address}:2379"
    command = ["--data-dir", str(folder), "--listen-client-urls", url, "--advertise-client-urls", url]
    return ["etcd", *command, "--log-level", "error"], ["-b", "etcd", "-o", f"endpoints={url}"]


def _redis(address: str, folder: Path) -> Words:
    command = ["--bind", address, "--protected-mode", "no", "--save", "", "--dir", str(folder)]
    return ["redis-server", *command], ["-b", "redis", "-o", f"url=redis://{address}:6379"]


def _nats(address: str, folder: Path) -> Words:
    return ["nats-server", "-a", address, "-js", "-sd", str(folder)], ["-b", "nats", "-o", f"servers=nats://{address}"]


def _mqtt(address: str, folder: Path) -> Words:
    path = folder / "conf"
    path.write_text(f"listener 1883 {address}\nuser root\nallow_anonymous true\n")
    return ["mosquitto", "-c", str(path)], ["-b", "mqtt", "-o", f"host={address}", "-o", "tls=false"]


STORES: dict[str, tuple[Callable[[str, Path], Words], int]] = {
    "etcd": (_etcd, 2379),
    "redis": (_redis, 6379),
    "nats": (_nats, 4222),
    "mqtt": (_mqtt, 1883),
}
"""How each is started, and its port."""


def store_on(lab: Lab, name: str, folder: Path) -> tuple[Host, list[str]]:
    """Start a store on a new public host; the host, and the options of wgdisco for it. It ends with the lab."""
    make, port = STORES[name]
    host = lab.public("store")
    folder.mkdir()
    (program, *words), options = make(host.address, folder)
    with (folder / "log").open("w") as log:
        server = host.popen(require_binary(program), *words, stdout=log, stderr=log)

    def listens() -> bool:
        assert server.poll() is None, (folder / "log").read_text()
        return f":{port}" in host.run("ss", "-Hltn").stdout

    wait_until(listens, f"{name} listens", 20)
    time.sleep(0.1)
    return host, options
