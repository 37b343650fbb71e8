"""Agents whose store is somewhere in the network: what becomes of its connections when the network changes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab.duo import Duo
from tests.lab.faults import home, known, run_both, tracebacks, until_connected
from tests.lab.lab import Lab
from tests.lab.space import LabError, wait_until
from tests.lab.stores import STORES, store_on

full = pytest.mark.full
each_store = pytest.mark.parametrize(
    "name", ["redis", *(pytest.param(name, marks=full) for name in STORES if name != "redis")]
)
SEEN = 3.0  # seconds without an answer after a change of address; a dead connection costs more to be noticed
BACK = 25.0  # seconds until everything is looked at again after an outage of the line


def duo_with(lab: Lab, folder: Path, name: str, first: str = "masq", second: str = "masq") -> Duo:
    """Two agents with this store, connected."""
    _, options = store_on(lab, name, folder / "server")
    duo = Duo(lab, folder, first, second, store=options)
    run_both(duo)
    until_connected(duo)
    return duo


@each_store
def test_the_connection_of_the_old_address_is_not_waited_for(lab: Lab, tmp_path: Path, name: str) -> None:
    """Nobody answers on it any more, neither to what we publish nor with news of the other side."""
    duo = duo_with(lab, tmp_path, name)
    with duo.pinging() as pings:
        for side in (0, 1, 0):
            time.sleep(1.5)
            now = time.time()
            duo.hosts[side].readdress()
            try:
                assert pings.outage(now, 20.0) < SEEN, duo.words()
            except LabError as error:
                raise LabError(f"{error}\n{duo.words()}") from None
    assert tracebacks(duo) == []


@full
@each_store
def test_both_move_at_once(lab: Lab, tmp_path: Path, name: str) -> None:
    """The store is all that is left to find each other by."""
    duo = duo_with(lab, tmp_path, name)
    with duo.pinging() as pings:
        time.sleep(1.5)
        now = time.time()
        for side in (0, 1):
            duo.hosts[side].readdress()
            home(duo, side).readdress()
        for side in (0, 1):
            home(duo, side).ip("neighbour flush dev wan")
        assert pings.outage(now, 60.0) < BACK, duo.words()


@full
def test_a_long_outage_of_the_line_costs_no_more_than_the_outage(lab: Lab, tmp_path: Path) -> None:
    """The kernel sees nothing of it; afterwards our public address is another one, and the other side has moved too."""
    duo = duo_with(lab, tmp_path, "redis")
    cable = home(duo, 0).cable
    cable.lose(100)
    time.sleep(60.0)
    home(duo, 0).readdress()
    home(duo, 1).readdress()
    cable.lose(0)
    for side in (0, 1):
        home(duo, side).ip("neighbour flush dev wan")
    duo.connected(BACK + 15.0)


@full
def test_a_start_without_network(lab: Lab, tmp_path: Path) -> None:
    """As at boot: the interface is there, the network comes later."""
    _, options = store_on(lab, "redis", tmp_path / "server")
    duo = Duo(lab, tmp_path, "masq", "masq", store=options)
    duo.run(1)
    duo.hosts[0].ip(f"link set {duo.hosts[0].interface} down")
    duo.run(0)
    wait_until(lambda: known(duo, 0) is not None, "alice reports", 20)
    time.sleep(45.0)
    duo.hosts[0].ip(f"link set {duo.hosts[0].interface} up", f"route add default via {home(duo, 0).lans[0][1]}")
    now = time.time()
    until_connected(duo)
    assert time.time() - now < 10.0, duo.words()
