"""What a look takes back of those before it, when the next one is due, and what is news to a peer."""

from __future__ import annotations

import pytest

from wgdisco.endpoint import Endpoint
from wgdisco.record import Candidate, Kind
from wgdisco.sources import Behaviour, Found, Nat, Where
from wgdisco.steady import MAPPING_LIVES, Steady, alike, remembered

INDEPENDENT, UNKNOWN = Behaviour.ENDPOINT_INDEPENDENT, Behaviour.UNKNOWN
ADDRESS, BOTH = Behaviour.ADDRESS_DEPENDENT, Behaviour.ADDRESS_AND_PORT_DEPENDENT
REST = 300.0
LAN, LAN6, PUBLIC = "192.168.1.5:51820", "[2001:db8::5]:51820", "198.51.100.5:51820"
NAT4, NAT6 = Nat(INDEPENDENT, BOTH, True), Nat(INDEPENDENT, UNKNOWN, False)


def host(text: str, detail: str = "eth0, the way out") -> Found:
    return Found(Endpoint.parse(text), Kind.HOST, "interface", detail)


def seen(text: str) -> Found:
    return Found(Endpoint.parse(text), Kind.SERVER_REFLEXIVE, "stun", "seen by one")


def told(text: str) -> Found:
    return Found(Endpoint.parse(text), Kind.OBSERVED, "peers", "seen by bob")


def look(*found: Found, nat: Nat | None = None, asked: bool = True) -> Where:
    return Where(list(found), nat or Nat(), asked=asked)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def steady(clock: Clock) -> Steady:
    return Steady(clock)


SEEN = look(host(LAN), seen("203.0.113.1:7"), nat=NAT4)
SILENT = look(host(LAN))


# ---- silence


def test_a_look_without_an_answer_keeps_what_was_seen_and_the_verdict(steady: Steady) -> None:
    steady.take(SEEN)
    assert steady.take(SILENT) == SEEN


def test_three_silent_looks_and_a_minute_are_the_end(steady: Steady, clock: Clock) -> None:
    steady.take(SEEN)
    kept = []
    for clock.now in (1020.0, 1040.0, 1060.0, 1080.0):
        kept.append(seen("203.0.113.1:7") in steady.take(SILENT).found)
    assert kept == [True, True, True, False]
    assert steady.where == SILENT
    assert not steady.is_seen


def test_many_looks_within_a_minute_are_not_the_end(steady: Steady, clock: Clock) -> None:
    """Whoever is in doubt about a path makes us look every second."""
    steady.take(SEEN)
    for clock.now in range(1001, 1060):
        assert steady.take(SILENT) == SEEN
    clock.now = 1060.0
    assert steady.take(SILENT) == SILENT


def test_an_answer_begins_the_time_anew(steady: Steady, clock: Clock) -> None:
    for clock.now in (1000.0, 1100.0, 1200.0, 1300.0):
        steady.take(SEEN)
        assert steady.take(SILENT) == SEEN


@pytest.mark.parametrize(
    "now",
    [
        look(host("192.168.7.5:51820")),
        look(host(LAN, "eth0")),
        look(host(LAN), host("192.168.2.5:51820", "wlan0")),
        look(),
    ],
    ids=["another address", "no longer the way out", "one more", "none"],
)
def test_another_address_of_ours_takes_it_back_at_once(steady: Steady, now: Where) -> None:
    steady.take(SEEN)
    assert steady.take(now) == now


def test_a_nat_that_moved_is_seen_by_the_first_answer(steady: Steady) -> None:
    steady.take(SEEN)
    steady.take(SILENT)
    now = look(host(LAN), seen("203.0.113.99:8"), nat=Nat(INDEPENDENT, UNKNOWN, True))
    assert steady.take(now) == look(host(LAN), seen("203.0.113.99:8"), nat=NAT4)


BOTH_FAMILIES = look(host(LAN), host(LAN6), seen("203.0.113.1:7"), seen(LAN6), nat=NAT4)


def test_only_the_silent_family_is_kept(steady: Steady) -> None:
    """IPv6 answers and has no NAT: the verdict is still that of IPv4, whose mapping has to be kept."""
    steady.take(BOTH_FAMILIES)
    now = steady.take(look(host(LAN), host(LAN6), seen(LAN6), nat=NAT6))
    assert (set(now.found), now.nat) == (set(BOTH_FAMILIES.found), NAT4)
    assert steady.pause(REST) == MAPPING_LIVES


def test_another_ipv6_address_does_not_take_back_ipv4(steady: Steady) -> None:
    steady.take(BOTH_FAMILIES)
    other = host("[2001:db8::99]:51820")
    now = steady.take(look(host(LAN), other))
    assert (set(now.found), now.nat) == ({host(LAN), other, seen("203.0.113.1:7")}, NAT4)


def test_what_is_kept_no_longer_leaves_the_other_family_its_verdict(steady: Steady, clock: Clock) -> None:
    steady.take(BOTH_FAMILIES)
    for clock.now in (1020.0, 1040.0, 1060.0, 1080.0):
        now = steady.take(look(host(LAN), host(LAN6), seen(LAN6), nat=NAT6))
    assert (now.found, now.nat) == ([host(LAN), host(LAN6), seen(LAN6)], NAT6)
    assert steady.pause(REST) == MAPPING_LIVES  # IPv4 may be translated, whoever is silent about it


def test_a_verdict_without_anybody_who_sees_us_is_left_as_it_is(steady: Steady) -> None:
    given = look(host(LAN), nat=NAT4, asked=False)
    assert steady.take(given) == given


@pytest.mark.parametrize(
    ("word", "kept"), [("203.0.113.1:9", []), ("203.0.113.9:9", [told("203.0.113.9:9")])], ids=["port", "address"]
)
def test_what_peers_say_meanwhile_is_news_if_it_is_another_address(
    steady: Steady, word: str, kept: list[Found]
) -> None:
    steady.take(SEEN)
    assert steady.take(look(host(LAN), told(word))).found == [host(LAN), *kept, seen("203.0.113.1:7")]


def test_what_peers_say_is_not_kept(steady: Steady) -> None:
    steady.take(look(host(LAN), told("203.0.113.1:9")))
    assert steady.take(SILENT) == SILENT


# ---- the NAT's verdict


@pytest.mark.parametrize(
    ("now", "before", "result"),
    [
        (Nat(INDEPENDENT, UNKNOWN, True), Nat(INDEPENDENT, BOTH, True), Nat(INDEPENDENT, BOTH, True)),
        (Nat(ADDRESS, UNKNOWN, True), Nat(BOTH, ADDRESS, True), Nat(BOTH, ADDRESS, True)),
        (Nat(ADDRESS, UNKNOWN, True), Nat(INDEPENDENT, BOTH, True), Nat(ADDRESS, UNKNOWN, True)),
        (Nat(INDEPENDENT, UNKNOWN, True), Nat(BOTH, BOTH, True), Nat(INDEPENDENT, UNKNOWN, True)),
        (Nat(INDEPENDENT, ADDRESS, True), Nat(INDEPENDENT, BOTH, True), Nat(INDEPENDENT, ADDRESS, True)),
        (Nat(UNKNOWN, UNKNOWN, True), Nat(BOTH, ADDRESS, True), Nat(BOTH, ADDRESS, True)),
        (Nat(UNKNOWN, UNKNOWN, False), Nat(INDEPENDENT, BOTH, True), Nat(INDEPENDENT, BOTH, False)),
    ],
)
def test_how_a_nat_filters_stands_as_long_as_its_mapping(now: Nat, before: Nat, result: Nat) -> None:
    """And its mapping as long as one server alone, which can tell nothing, was in time."""
    assert remembered(now, before) == result


def test_one_answer_elsewhere_says_nothing_of_that_nat(steady: Steady) -> None:
    steady.take(SEEN)
    now = look(host("10.0.0.5:51820"), seen("203.0.113.7:1"), nat=Nat(UNKNOWN, UNKNOWN, True))
    assert steady.take(now) == now


# ---- the next look


@pytest.mark.parametrize(
    ("where", "seconds"),
    [
        (SEEN, MAPPING_LIVES),
        (look(host(PUBLIC), seen(PUBLIC), nat=Nat(INDEPENDENT, UNKNOWN, False)), REST),
        (look(host(PUBLIC), seen("203.0.113.1:7"), nat=Nat(INDEPENDENT, UNKNOWN, False)), MAPPING_LIVES),
        (look(host(LAN), host(LAN6), seen(LAN6), nat=NAT6), MAPPING_LIVES),
        (look(host(LAN6), seen(LAN6), nat=NAT6), REST),
        (look(host(LAN), asked=False), MAPPING_LIVES),
    ],
    ids=["nat", "public", "seen elsewhere", "IPv4 not seen", "IPv6 alone", "nobody to ask"],
)
def test_a_mapping_is_kept_wherever_there_may_be_one(steady: Steady, where: Where, seconds: float) -> None:
    steady.take(where)
    assert steady.pause(REST) == seconds


def test_a_family_that_has_become_silent_is_looked_at_again_soon(steady: Steady) -> None:
    both = look(host(PUBLIC), host(LAN6), seen(PUBLIC), seen(LAN6), nat=Nat(INDEPENDENT, UNKNOWN, False))
    steady.take(both)
    assert steady.pause(REST) == REST
    steady.take(look(host(PUBLIC), host(LAN6), seen(PUBLIC), nat=Nat(INDEPENDENT, UNKNOWN, False)))
    assert steady.pause(REST) == MAPPING_LIVES


def pauses(steady: Steady, where: Where, number: int) -> list[float]:
    return [steady.pause(REST) for _ in range(number) if steady.take(where)]


def test_who_is_seen_by_nobody_looks_again_soon_and_then_less_often(steady: Steady) -> None:
    assert pauses(steady, SILENT, 7) == [1, 2, 4, 8, 16, MAPPING_LIVES, MAPPING_LIVES]


def test_other_addresses_and_answers_begin_that_anew(steady: Steady) -> None:
    assert pauses(steady, SILENT, 3) == [1, 2, 4]
    assert pauses(steady, look(host("10.0.0.5:51820")), 2) == [1, 2]
    assert pauses(steady, SEEN, 2) == [MAPPING_LIVES] * 2


def test_nobody_who_was_asked_is_no_silence(steady: Steady) -> None:
    assert pauses(steady, look(host(LAN), asked=False), 3) == [MAPPING_LIVES] * 3


# ---- news


def said(*texts: str, kind: Kind = Kind.SERVER_REFLEXIVE) -> list[Candidate]:
    return [Candidate(kind, Endpoint.parse(text)) for text in texts]


INNER = said(LAN, kind=Kind.HOST)


@pytest.mark.parametrize(
    ("now", "before", "mapping", "same"),
    [
        (said("203.0.113.1:7", "203.0.113.1:8"), said("203.0.113.1:8", "203.0.113.1:7"), INDEPENDENT, True),
        (said("203.0.113.1:7"), said("203.0.113.1:8"), INDEPENDENT, False),
        (said("203.0.113.1:7"), said("203.0.113.1:8"), UNKNOWN, False),
        (said("203.0.113.1:7"), said("203.0.113.1:8"), ADDRESS, True),
        (said("203.0.113.1:7"), said("203.0.113.1:8", "203.0.113.1:9"), BOTH, True),
        (said("203.0.113.2:8"), said("203.0.113.1:8"), ADDRESS, False),
        (said("203.0.113.1:8"), said("203.0.113.1:1", "203.0.113.2:2"), ADDRESS, True),
        (said("203.0.113.1:1", "203.0.113.2:2"), said("203.0.113.1:8"), ADDRESS, False),
        (said(LAN6), said(LAN6, "203.0.113.1:8"), ADDRESS, False),
        ([], said("203.0.113.1:8"), ADDRESS, False),
        (INNER, [], ADDRESS, False),
        ([*INNER, *said("203.0.113.1:7")], [*said("203.0.113.1:8"), *INNER], ADDRESS, True),
        (said("203.0.113.1:7", kind=Kind.OBSERVED), said("203.0.113.1:7"), INDEPENDENT, True),
        (said("203.0.113.1:7", kind=Kind.MAPPED), said("203.0.113.1:7"), ADDRESS, False),
        (said("203.0.113.1:7", kind=Kind.MAPPED), said("203.0.113.1:8", kind=Kind.MAPPED), ADDRESS, False),
    ],
    ids=[
        "another order",
        "another port",
        "another port of an unknown NAT",
        "another port of a dependent mapping",
        "a late server",
        "another address",
        "a late server of another way out",
        "one more address",
        "a family less",
        "nothing any longer",
        "a new host address",
        "hosts in another order",
        "seen by others",
        "forwarded now",
        "forwarded to another port",
    ],
)
def test_what_is_news_to_peers(now, before, mapping, same) -> None:
    assert alike(now, before, mapping) is same
