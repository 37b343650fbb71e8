"""sources/peers.py: where our own peers see us."""

from __future__ import annotations

from wgdisco.endpoint import Endpoint
from wgdisco.keys import PrivateKey
from wgdisco.record import Kind
from wgdisco.sources import Found
from wgdisco.sources.peers import Witnesses

ALICE, BOB = (PrivateKey(bytes([number]) * 32).public for number in (1, 2))
THERE, US, ELSEWHERE = map(Endpoint.parse, ("203.0.113.1:51820", "198.51.100.7:4000", "198.51.100.8:4000"))


def told(witnesses: Witnesses) -> list[tuple[str, str]]:
    return [(str(each.endpoint), each.detail) for each in witnesses.found()]


def test_peers_that_agree_are_one_candidate() -> None:
    witnesses = Witnesses()
    witnesses.hear(ALICE, THERE, US)
    witnesses.hear(BOB, THERE, US)
    assert [(each.endpoint, each.kind, each.source) for each in witnesses.found()] == [(US, Kind.OBSERVED, "peers")]


def test_a_peer_has_one_voice_and_the_latest_counts() -> None:
    witnesses = Witnesses()
    witnesses.hear(ALICE, THERE, US)
    witnesses.hear(ALICE, THERE, ELSEWHERE)
    assert told(witnesses) == [(str(ELSEWHERE), f"seen by {ALICE.short}")]


def test_what_was_seen_is_over_after_two_minutes_and_when_our_addresses_change() -> None:
    now = [0.0]
    witnesses = Witnesses(lambda: now[0])
    witnesses.hear(ALICE, THERE, US)
    now[0] = 121.0
    assert told(witnesses) == []
    witnesses.hear(ALICE, THERE, US)
    witnesses.forget()
    assert told(witnesses) == []


def test_a_peer_on_the_internet_that_names_an_address_of_ours_inside_is_not_believed() -> None:
    witnesses = Witnesses()
    witnesses.hear(ALICE, THERE, Endpoint.parse("192.168.1.7:51820"))
    witnesses.hear(BOB, THERE, Endpoint.parse("127.0.0.1:51820"))
    assert told(witnesses) == []


def test_where_a_server_has_seen_us_peers_are_not_asked() -> None:
    witnesses = Witnesses()
    witnesses.hear(ALICE, THERE, US)
    host, reflexive = Found(ELSEWHERE, Kind.HOST, "interface"), Found(ELSEWHERE, Kind.SERVER_REFLEXIVE, "stun")
    assert [each.endpoint for each in witnesses.beside([host])] == [US]
    assert witnesses.beside([reflexive]) == []


def test_at_most_four_endpoints_are_told() -> None:
    witnesses = Witnesses()
    for number in range(3, 13):
        key = PrivateKey(bytes([number]) * 32).public
        witnesses.hear(key, THERE, Endpoint.parse(f"198.51.100.{number}:4000"))
    assert len(witnesses.found()) == 4
