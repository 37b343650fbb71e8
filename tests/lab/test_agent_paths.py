"""The agent on both sides of a tunnel, on real WireGuard and real NAT: it starts it, mends it, else leaves it alone.

Times are limits and not figures, about four times what a machine needs that has nothing else to do; the benches measure.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.lab.duo import ADDRESSES, Duo, Pings
from tests.lab.lab import Host, Lab
from tests.lab.space import LabError, wait_until
from tests.lab.stations import Router

pytestmark = pytest.mark.lab
full = pytest.mark.full

START = 25.0  # seconds to the first ping
LOSSY = 90.0  # the same where packets are lost
SEEN = 2.0  # seconds without an answer after a change that the kernel tells; less than it takes to miss an answer
MISSED = 13.0  # the same where what came in, or was answered, no longer is; WireGuard alone tries anew after 15 s
UNSEEN = 45.0  # the same where only a look tells, every 20 s; less than three keepalives, which would tell as well
FLOW = 5.0  # seconds of pings after which their end is noticed by who only answers them
CALM = 20.0  # seconds for which a tunnel that works is watched
GLANCE = 8.0  # the same, where something happens at the beginning that it must not react to
BLIND = 60.0  # seconds until a peer that answers no checks is taken for gone
NOWHERE = "203.0.113.250:9"  # nobody has this address
NOWHERE6 = "[2001:db8:ffff::250]:9"


# ---- the sites


def address(host: Host) -> str:
    """Where the internet sees a host."""
    while isinstance(host.network, Router):
        host = host.network  # type: ignore[assignment]  # a router is a station in a network, too
    return host.address


def home(duo: Duo, side: int) -> Router:
    """The router of a side."""
    router = duo.hosts[side].network
    assert isinstance(router, Router)
    return router


def run_both(duo: Duo, pause: float = 0.0) -> None:
    """Start both agents, the second one `pause` seconds later."""
    duo.run(0)
    time.sleep(pause)
    duo.run(1)


def known(duo: Duo, side: int, name: str = "state") -> Any:
    """What the agent of a side reports of the other one; None before the first report."""
    if not duo.hosts[side].path("/run/wgdisco/wg0/state.json").exists():
        return None
    peers = duo.state(side).get("peers") or [{}]
    return peers[0].get(name)


def moves(duo: Duo, side: int) -> int:
    """How often the agent of a side has moved a live session."""
    return int(duo.state(side)["counters"]["moves"])


def until_connected(duo: Duo, seconds: float = START) -> None:
    """Wait until a ping goes through and every agent says that it is connected."""
    duo.connected(seconds)
    for side in duo.agents:
        wait_until(lambda side=side: known(duo, side) == "connected", f"{duo.hosts[side].name} says connected", 20)


def by_hand(duo: Duo, *sides: int, keepalive: int | None = None) -> None:
    """Set the other one's endpoint at these sides, as people do without wgdisco, and have a tunnel."""
    for side in sides:
        endpoint = f"{address(duo.hosts[1 - side])}:51820"
        duo.tunnels[side].peer(duo.tunnels[1 - side].public, endpoint=endpoint, keepalive=keepalive)
    duo.connected(START)


def settings(duo: Duo, side: int) -> dict[str, str]:
    """What the user of a side sees of the other one, but for counters and times."""
    return {name: value for name, value in duo.other(side).items() if "bytes" not in name and "time" not in name}


def publish(duo: Duo, side: int, *more: str) -> None:
    """Type `wgdisco publish` at a side."""
    duo.hosts[side].run(sys.executable, "-m", "wgdisco", "publish", "-i", "wg0", *duo.options, *more)


def mended(duo: Duo, pings: Pings, since: float, limit: float) -> None:
    """Wait until the pings are answered again, which must not take longer than `limit` seconds."""
    try:
        outage = pings.outage(since, 2 * limit + 5.0)
    except LabError as error:
        raise LabError(f"{error}\n{duo.words()}") from None
    assert outage < limit, duo.words()


# ---- start


@pytest.mark.parametrize(
    ("first", "second", "pause"),
    [
        ("masq", "masq", 0.0),
        pytest.param("masq", "masq", 3.0, marks=full),
        pytest.param("sym", "fullcone", 0.0, marks=full),
        pytest.param("sym", "fullcone", 3.0, marks=full),
        pytest.param("fullcone", "sym", 3.0, marks=full),
        pytest.param("fw6", "fw6", 0.0, marks=full),
        pytest.param("fw6", "fw6", 3.0, marks=full),
        pytest.param("public", "sym", 0.0, marks=full),
        pytest.param("public", "sym", 3.0, marks=full),
    ],
)
def test_two_agents_connect_their_hosts(lab: Lab, tmp_path: Path, first: str, second: str, pause: float) -> None:
    """Started together, and one after the other."""
    duo = Duo(lab, tmp_path, first, second)
    run_both(duo, pause)
    until_connected(duo)


@pytest.mark.parametrize("sites", [("sym", "addrrest"), pytest.param(("addrrest", "sym"), marks=full)], ids="-".join)
def test_symmetric_meets_address_restricted(lab: Lab, tmp_path: Path, sites: tuple[str, str]) -> None:
    """The address that the other side is sent from is in no record: checks learn it."""
    duo = Duo(lab, tmp_path, *sites)
    run_both(duo)
    until_connected(duo)


@full
@pytest.mark.parametrize("sites", [("masq", "masq"), ("sym", "fullcone")], ids="-".join)
def test_a_line_that_loses_three_of_ten_packets(lab: Lab, tmp_path: Path, sites: tuple[str, str]) -> None:
    duo = Duo(lab, tmp_path, *sites)
    home(duo, 0).cable.lose(30)
    run_both(duo)
    until_connected(duo, LOSSY)


@full
@pytest.mark.parametrize("delay", [0.025, 0.05], ids=["50 ms", "100 ms"])
def test_a_slow_line(lab: Lab, tmp_path: Path, delay: float) -> None:
    """Both agents start at one moment: their handshakes do not destroy each other again and again."""
    duo = Duo(lab, tmp_path)
    for side in (0, 1):
        home(duo, side).cable.delay(delay)
    run_both(duo)
    until_connected(duo)


@full
def test_both_homes_have_the_same_prefix(lab: Lab, tmp_path: Path) -> None:
    """What is bob's address in his home is carol's in alice's."""
    duo = Duo(lab, tmp_path)
    for number, host in enumerate(duo.hosts, 20):
        host.move(lab.router(f"{host.name}-home", "masq", lan="192.168.1.0/24"), f"192.168.1.{number}/24")
    lab.host("carol", home(duo, 0), f"{duo.hosts[1].address}/24")
    run_both(duo)
    until_connected(duo)
    assert [duo.other(side).endpoint for side in (0, 1)] == [f"{address(duo.hosts[1 - side])}:51820" for side in (0, 1)]


def test_two_hosts_of_one_home_use_their_addresses_there(lab: Lab, tmp_path: Path) -> None:
    """Their router does not take packets for itself from inside, so that its outer address leads nowhere."""
    duo = Duo(lab, tmp_path)
    duo.hosts[1].move(home(duo, 0))
    run_both(duo)
    until_connected(duo)
    assert [duo.other(side).endpoint for side in (0, 1)] == [f"{duo.hosts[1 - side].address}:51820" for side in (0, 1)]


# ---- leave alone


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("fullcone", "sym"),  # one side forwarded, the other symmetric
        pytest.param("masq", "masq", marks=full),
        pytest.param("public", "public", marks=full),
    ],
)
def test_a_tunnel_that_works_is_not_touched(lab: Lab, tmp_path: Path, first: str, second: str) -> None:
    """No packet is lost, and nothing is changed, when agents come to a tunnel that was set up by hand."""
    duo = Duo(lab, tmp_path, first, second)
    by_hand(duo, 0, 1, keepalive=25)
    before = [settings(duo, side) for side in (0, 1)]
    with duo.pinging() as pings:
        run_both(duo)
        time.sleep(CALM)
        assert len(pings.answers) > CALM / pings.pause / 2
    assert (pings.lost, [settings(duo, side) for side in (0, 1)]) == (0, before), duo.words()
    assert [known(duo, side) for side in (0, 1)] == ["connected"] * 2


@pytest.mark.parametrize("talking", [True, pytest.param(False, marks=full)], ids=["talking", "idle"])
def test_a_record_with_other_endpoints_moves_nothing_that_answers(lab: Lab, tmp_path: Path, talking: bool) -> None:
    """The other agent says that it is where nobody is, and answers checks where it really is."""
    duo = Duo(lab, tmp_path)
    by_hand(duo, 0, 1, keepalive=25)
    before = settings(duo, 0)
    with duo.pinging() if talking else nullcontext() as pings:
        duo.run(0)
        duo.run(1, "-e", NOWHERE, "--stun", "none")
        wait_until(lambda: NOWHERE in str(known(duo, 0, "record")), "alice knows the record", 20)
        time.sleep(GLANCE)
    assert (moves(duo, 0), settings(duo, 0)) == (0, before), duo.words()
    assert pings is None or (len(pings.answers) > GLANCE / pings.pause / 2 and pings.lost == 0)


@full
def test_a_later_record_of_another_process_moves_nothing_that_answers(lab: Lab, tmp_path: Path) -> None:
    """Two agents are connected; a third process with the key of one publishes an endpoint that leads nowhere."""
    duo = Duo(lab, tmp_path)
    run_both(duo)
    until_connected(duo)
    # the agent itself publishes once more when it has measured its NAT, and the last one stands
    wait_until(lambda: "unknown" not in duo.state(1)["nat"], "bob has measured its NAT", 20)
    time.sleep(1.5)
    before = settings(duo, 0)
    publish(duo, 1, "-e", NOWHERE, "--stun", "none")
    wait_until(lambda: NOWHERE in str(known(duo, 0, "record")), "alice knows the record", 20)
    with duo.pinging() as pings:
        time.sleep(GLANCE)
    assert (pings.lost, moves(duo, 0), settings(duo, 0)) == (0, 0, before), duo.words()


@full
def test_a_peer_without_wgdisco_is_none_of_our_business(lab: Lab, tmp_path: Path) -> None:
    """Plain WireGuard at a fixed endpoint: its session goes on, and whatever its user set stays."""
    duo = Duo(lab, tmp_path, "masq", "public")
    by_hand(duo, 0, keepalive=13)
    before = settings(duo, 0)
    with duo.pinging() as pings:
        duo.run(0)
        time.sleep(CALM)
        assert len(pings.answers) > CALM / pings.pause / 2
    assert (pings.lost, known(duo, 0), settings(duo, 0)) == (0, "connected", before), duo.words()


@full
def test_a_peer_without_wgdisco_can_come_later(lab: Lab, tmp_path: Path) -> None:
    """Before its first handshake as well, plain WireGuard is left with the endpoint and keepalive it was given."""
    duo = Duo(lab, tmp_path, "masq", "public")
    duo.tunnels[1].remove(duo.tunnels[0].public)
    duo.tunnels[0].peer(duo.tunnels[1].public, endpoint=f"{duo.hosts[1].address}:51820", keepalive=1)
    before = settings(duo, 0)
    duo.run(0)
    wait_until(lambda: known(duo, 0) == "searching", "alice seeks a record", 20)
    time.sleep(3.0)
    assert settings(duo, 0) == before
    duo.tunnels[1].peer(duo.tunnels[0].public, f"{ADDRESSES[0]}/32")
    until_connected(duo)
    assert settings(duo, 0) == before


@full
def test_a_peer_that_only_published_is_connected_by_wireguard_alone(lab: Lab, tmp_path: Path) -> None:
    """Nobody answers checks there, and nobody ever will: the record's endpoint is simply tried."""
    duo = Duo(lab, tmp_path, "masq", "public")
    publish(duo, 1)
    duo.run(0)
    until_connected(duo)
    assert duo.other(0).endpoint == f"{duo.hosts[1].address}:51820"


@pytest.mark.parametrize("seconds", [0.0, pytest.param(30.0, marks=full)])
def test_the_endpoint_that_the_user_gave_is_tried_beside_what_the_record_names(
    lab: Lab, tmp_path: Path, seconds: float
) -> None:
    """A forward by hand, of which the record does not know; also when it works only after `seconds` of trying."""
    duo = Duo(lab, tmp_path, "masq", "public")
    publish(duo, 1, "--stun", "none", "-e", NOWHERE)
    given = f"{duo.hosts[1].address}:51820"
    duo.tunnels[0].peer(duo.tunnels[1].public, endpoint=given)
    duo.hosts[1].cable.lose(100 if seconds else 0)
    duo.run(0)
    wait_until(lambda: known(duo, 0, "record"), "alice knows the record", 20)
    time.sleep(seconds)
    duo.hosts[1].cable.lose(0)
    until_connected(duo, 20.0)
    assert duo.other(0).endpoint == given


@full
def test_families_without_a_route_are_skipped(lab: Lab, tmp_path: Path) -> None:
    duo = Duo(lab, tmp_path, "masq", "public")
    publish(duo, 1, "--stun", "none", "-e", NOWHERE6, "-e", f"{duo.hosts[1].address}:51820")
    duo.run(0)
    until_connected(duo)
    said = {each["endpoint"]: each.get("reason") for each in known(duo, 0, "record")["candidates"]}
    assert said[NOWHERE6] == "no IPv6 route"


# ---- what the user set


@full
def test_what_the_user_set_survives(lab: Lab, tmp_path: Path) -> None:
    """Keepalive, preshared key and allowed-ips are the same afterwards, although the peer was removed on the way."""
    duo, shared = Duo(lab, tmp_path), bytes(range(32))
    allowed = [f"{ADDRESSES[1]}/32", "10.77.0.0/16"]
    # WireGuard is trying elsewhere already, so that only a restart of the peer makes it try here at once
    duo.tunnels[0].peer(duo.tunnels[1].public, *allowed, endpoint=NOWHERE, keepalive=7, preshared=shared)
    duo.tunnels[1].peer(duo.tunnels[0].public, keepalive=9, preshared=shared)
    run_both(duo)
    until_connected(duo)
    assert settings(duo, 0)["preshared_key"] == shared.hex()
    assert sorted(settings(duo, 0)["allowed_ip"].split()) == sorted(allowed)
    assert [settings(duo, side)["persistent_keepalive_interval"] for side in (0, 1)] == ["7", "9"]


@full
@pytest.mark.parametrize(("site", "keepalive"), [("masq", "25"), ("public", "0")])
def test_a_keepalive_is_set_where_a_nat_needs_it(lab: Lab, tmp_path: Path, site: str, keepalive: str) -> None:
    """Where the user set none: 25 s behind a NAT, and still none on a public host."""
    duo = Duo(lab, tmp_path, site, "public")
    run_both(duo)
    until_connected(duo)
    expected = [keepalive, "0"]
    wait_until(
        lambda: [settings(duo, side)["persistent_keepalive_interval"] for side in (0, 1)] == expected,
        f"the keepalives are {expected}",
        20,
    )


# ---- mend


def host_moves(duo: Duo) -> None:
    """The host takes another address, which the kernel tells."""
    duo.hosts[0].readdress()


def hosts_move(duo: Duo) -> None:
    """Both hosts take other addresses."""
    for host in duo.hosts:
        host.readdress()


def router_moves(duo: Duo) -> None:
    """The provider gives the router another address; the host sees nothing of it."""
    renumber(duo, 0)


def routers_move(duo: Duo) -> None:
    """Both routers get other addresses."""
    renumber(duo, 0, 1)


def renumber(duo: Duo, *sides: int) -> None:
    """Other addresses for these routers; who sends to the old ones reaches nobody, although all are neighbours here."""
    for side in sides:
        home(duo, side).readdress()
    for side in (0, 1):
        home(duo, side).ip("neighbour flush dev wan")


def router_reboots(duo: Duo) -> None:
    """The router forgets all its mappings."""
    home(duo, 0).reboot()


@pytest.mark.parametrize(
    ("first", "second", "change", "talker", "limit"),
    [
        ("masq", "masq", host_moves, 0, SEEN),
        ("masq", "masq", router_moves, 0, MISSED),
        pytest.param("masq", "masq", host_moves, 1, SEEN, marks=full),
        pytest.param("masq", "masq", hosts_move, 0, SEEN, marks=full),
        pytest.param("public", "masq", host_moves, 0, SEEN, marks=full),
        pytest.param("public", "masq", hosts_move, 1, SEEN, marks=full),
        pytest.param("public", "public", hosts_move, 0, SEEN, marks=full),
        pytest.param("sym", "fullcone", host_moves, 1, SEEN, marks=full),
        pytest.param("masq", "masq", router_moves, 1, MISSED, marks=full),
        pytest.param("masq", "masq", routers_move, 0, UNSEEN, marks=full),
        pytest.param("sym", "fullcone", routers_move, 0, UNSEEN, marks=full),
        pytest.param("masq", "masq", router_reboots, 0, MISSED, marks=full),
        pytest.param("masq", "masq", router_reboots, 1, MISSED, marks=full),
        pytest.param("sym", "fullcone", router_reboots, 1, MISSED, marks=full),
    ],
)
def test_a_change_is_mended_under_traffic(
    lab: Lab, tmp_path: Path, first: str, second: str, change: Callable[[Duo], None], talker: int, limit: float
) -> None:
    """`talker` is the side that pings: 0 is where the change happens."""
    duo = Duo(lab, tmp_path, first, second)
    run_both(duo)
    until_connected(duo)
    with duo.pinging(talker) as pings:
        time.sleep(FLOW if talker == 1 else 1.0)
        now = time.time()
        change(duo)
        mended(duo, pings, now, limit)


@full
@pytest.mark.parametrize("change", [router_moves, routers_move])
def test_a_router_that_moves_is_noticed_when_nobody_talks(
    lab: Lab, tmp_path: Path, change: Callable[[Duo], None]
) -> None:
    """Nothing is sent but keepalives, and the other router drops what comes from elsewhere: the agents look by STUN."""
    duo = Duo(lab, tmp_path)
    run_both(duo)
    until_connected(duo)
    change(duo)
    expected = [f"{address(duo.hosts[1 - side])}:51820" for side in (0, 1)]
    wait_until(lambda: [duo.other(side).endpoint for side in (0, 1)] == expected, "both are where they are", UNSEEN)
    duo.connected(5.0)


@full
def test_a_dead_path_is_left_for_one_that_answers(lab: Lab, tmp_path: Path) -> None:
    """The other host is elsewhere, and only its record says so: our NAT drops what it sends from there."""
    duo = Duo(lab, tmp_path, "masq", "public")
    run_both(duo)
    until_connected(duo)
    with duo.pinging() as pings:
        time.sleep(1.0)
        now = time.time()
        duo.hosts[1].readdress()
        mended(duo, pings, now, SEEN)
    wait_until(lambda: moves(duo, 0) == 1, "alice says that she moved it", 10)
    assert duo.other(0).endpoint == f"{duo.hosts[1].address}:51820"


@full
def test_a_dead_path_of_a_peer_that_answers_no_checks_is_left(lab: Lab, tmp_path: Path) -> None:
    """Of a peer that only publishes, the newer record is used when nothing has come back for long."""
    duo = Duo(lab, tmp_path, "masq", "public")
    publish(duo, 1)
    duo.run(0)
    until_connected(duo)
    with duo.pinging() as pings:
        time.sleep(1.0)
        now = time.time()
        duo.hosts[1].readdress()
        publish(duo, 1)
        mended(duo, pings, now, BLIND)
    assert duo.other(0).endpoint == f"{duo.hosts[1].address}:51820"
