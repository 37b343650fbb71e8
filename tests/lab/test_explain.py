"""What `status` and `why` say of real agents: one that is killed, and a pair that cannot work."""

from __future__ import annotations

import json
import signal
import sys

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.lab.duo import Duo
from tests.lab.space import wait_until

pytestmark = pytest.mark.lab


def say(duo: Duo, side: int, *words: str) -> tuple[int, str]:
    """What a command prints at a site, and its exit code."""
    done = duo.hosts[side].run(sys.executable, "-m", "wgdisco", *words, check=False)
    return done.returncode, done.stdout


def reason(duo: Duo, side: int) -> str:
    """The name of the reason why the other side is not connected."""
    return str(json.loads(say(duo, side, "why", str(duo.tunnels[1 - side].public), "--json")[1])["reason"])


def test_both_sides_of_a_pair_that_cannot_work_are_told(lab, tmp_path) -> None:
    duo = Duo(lab, tmp_path, "sym", "masq")
    for side in (0, 1):
        duo.run(side)
    for side in (0, 1):
        wait_until(duo.hosts[side].path("/run/wgdisco/wg0/state.json").exists, "the agent has written its state")
        wait_until(lambda side=side: reason(duo, side) == "impossible", f"{duo.hosts[side].name} knows", seconds=30)
        code, text = say(duo, side, "why", str(duo.tunnels[1 - side].public))
        assert (code, text.splitlines()[-2].split(":")[0]) == (1, "likely reason")
        assert "one NAT" in text.splitlines()[-2]


def test_an_agent_that_is_killed_shows_as_dead_and_the_tunnel_as_connected(lab, tmp_path) -> None:
    """Its metrics are read by Prometheus' own parser; a report of its own is what `why` then looks up."""
    duo = Duo(lab, tmp_path)
    for side in (0, 1):
        duo.run(side)
    duo.connected()
    wait_until(lambda: say(duo, 0, "why", str(duo.tunnels[1].public))[0] == 0, "the agent knows that it is connected")
    assert "agent: running for" in say(duo, 0)[1]
    metrics = duo.hosts[0].path("/run/wgdisco/wg0/metrics.prom").read_text()
    assert "wgdisco_peer_connected" in {each.name for each in text_string_to_metric_families(metrics)}
    duo.stop(0, signal.SIGKILL)
    code, text = say(duo, 0)
    assert (code, "agent: dead" in text) == (1, True)
    code, text = say(duo, 0, "why", str(duo.tunnels[1].public), *duo.options)
    assert code == 0
    assert text.splitlines()[-2:] == [
        "likely reason: connected; no agent runs, so nobody mends it when an address changes",
        "next step: wgdisco run -i wg0",
    ]
