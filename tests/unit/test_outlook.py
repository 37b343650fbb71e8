"""What is known of one peer: news of it, what of its record may be tried, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from tests.unit.records import ALICE, NOW, candidate, here, record
from tests.unit.test_connect import Sent, Tunnel, link
from wgdisco.connect import PUNCH_TTLS
from wgdisco.device import Peer
from wgdisco.device.routes import Route
from wgdisco.outlook import Ours, Outlook, nat_of
from wgdisco.policy import Ground
from wgdisco.record import Candidate, Kind
from wgdisco.search import Finding

OURS = candidate("203.0.113.77:51820")
LAN, WAN, V6 = candidate("192.168.1.5:1", Kind.HOST), candidate("203.0.113.1:1"), candidate("[2001:db8::1]:1")
SYMMETRIC = ["address-and-port-dependent", "address-and-port-dependent"]
RESTRICTED = ["endpoint-independent", "address-and-port-dependent"]
UNKNOWN = ["unknown", "unknown"]


def outlook(port: Sent | None = None, nat: Sequence[str] = UNKNOWN) -> tuple[Outlook, list[str]]:
    """An outlook on Alice from a host with IPv4 only, and what it says."""
    words: list[str] = []
    ground = Ground(lambda to: Route("eth0", ip_address("192.0.2.9")) if to.version == 4 else None, [OURS.endpoint])
    ours = Ours(lambda: ground, lambda: [OURS], lambda: nat)
    return Outlook(link(Tunnel(Peer(ALICE.public)), port=port), ours, words.append), words


def finding(issued: int = NOW, *candidates: Candidate, **hints: Any) -> Finding:
    """Alice's record, as the folder gave it."""
    return Finding(record(issued, candidates=candidates, hints=hints), "folder", here(), b"")


def test_what_worked_here_last_goes_first() -> None:
    """Which is also so when the next record names it last."""
    seen, _ = outlook()
    assert seen.judge(finding(NOW, WAN, LAN).record) == [WAN.endpoint, LAN.endpoint]
    seen.worked = LAN.endpoint
    assert seen.judge(finding(NOW + 1, WAN, LAN).record) == [LAN.endpoint, WAN.endpoint]


def test_what_worked_and_is_no_longer_named_is_not_tried() -> None:
    seen, _ = outlook()
    seen.worked = candidate("198.51.100.5:5").endpoint
    assert seen.judge(finding(NOW, WAN, LAN).record) == [WAN.endpoint, LAN.endpoint]


def test_an_address_inside_a_carriers_network_is_tried_after_what_the_internet_sees() -> None:
    """100.64.0.0/10 (RFC 6598) means nothing outside of that carrier, however global it looks."""
    seen, _ = outlook()
    carrier = candidate("100.64.0.9:51820", Kind.HOST)
    assert seen.judge(finding(NOW, carrier, WAN).record) == [WAN.endpoint, carrier.endpoint]


def test_what_cannot_be_tried_is_skipped_with_the_reason() -> None:
    """A family without a route, and what is our own."""
    seen, _ = outlook()
    assert seen.judge(finding(NOW, V6, OURS, WAN).record) == [WAN.endpoint]
    assert seen.skipped == [(V6, "no IPv6 route"), (OURS, "our own endpoint")]


def test_what_a_check_said_is_forgotten_with_the_endpoint() -> None:
    seen, _ = outlook()
    seen.results = {WAN.endpoint: (0.1, 1.0), LAN.endpoint: (None, 1.0)}
    seen.judge(finding(NOW, LAN).record)
    assert seen.results == {LAN.endpoint: (None, 1.0)}


def test_what_a_clock_ahead_of_ours_said_gives_way_to_what_is_true() -> None:
    """It was found while our own clock was ahead, too."""
    seen, _ = outlook()
    ahead, true = finding(NOW + 1000, WAN), finding(NOW, LAN)
    seen.take(ahead)
    seen.ours.latest = lambda: NOW
    seen.take(true)
    assert seen.latest is true


def test_an_older_record_is_no_news() -> None:
    seen, _ = outlook()
    newer = finding(NOW + 1, WAN)
    for each in (newer, finding(NOW, LAN), finding(NOW + 1, LAN)):
        seen.take(each)
    assert seen.latest is newer


def test_until_we_have_published_a_record_opens_our_nat_and_no_more() -> None:
    """With packets that do not arrive: the first one that does has to be the other side's."""
    port = Sent()
    seen, _ = outlook(port)
    seen.take(finding(NOW, WAN, LAN))
    assert port.sent == [(WAN.endpoint, PUNCH_TTLS[0]), (LAN.endpoint, PUNCH_TTLS[0])]
    port.sent.clear()
    seen.ours.ready.set()
    seen.take(finding(NOW + 1, WAN, LAN))
    assert port.sent == []


def test_a_pair_that_cannot_work_is_named_once() -> None:
    seen, words = outlook(nat=SYMMETRIC)
    seen.take(finding(NOW, WAN, nat=RESTRICTED))
    seen.review()
    seen.review()
    assert len(words) == 1
    assert "this pair can hardly be connected directly" in words[0]
    assert seen.verdict is not None


def test_a_pair_that_can_work_after_all_is_no_longer_named() -> None:
    seen, _ = outlook(nat=SYMMETRIC)
    seen.take(finding(NOW, WAN, nat=RESTRICTED))
    seen.review()
    seen.take(finding(NOW + 1, WAN, nat=["endpoint-independent", "endpoint-independent"]))
    seen.review()
    assert seen.verdict is None


@pytest.mark.parametrize("nat", [None, "symmetric", ["one"], [1, 2], ["a", "b", "c"]])
def test_a_nat_that_is_not_two_words_is_unknown(nat: Any) -> None:
    assert list(nat_of(record(hints={"nat": nat}))) == UNKNOWN


def test_a_check_is_heard_from_where_we_can_answer() -> None:
    """Of a family without a route, and from ourselves, it is not."""
    seen, _ = outlook()
    for each in (V6, OURS):
        seen.hear(each.endpoint)
    assert seen.heard is None
    seen.hear(WAN.endpoint)
    assert seen.heard == WAN.endpoint
