"""What may be sent to who has not asked for it: for one peer, for one address over all peers, and what was welcome."""

from __future__ import annotations

from ipaddress import ip_address

from wgdisco.budget import HOST, KNOWN, PEER, Budget
from wgdisco.keys import PrivateKey

PEERS = [PrivateKey(bytes([number]) * 32).public for number in range(1, 41)]
ALICE, BOB = PEERS[:2]
VICTIM, OTHER = ip_address("192.0.2.1"), ip_address("192.0.2.2")
MUCH = 10_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_asked_for_is_granted_up_to_the_peers_budget() -> None:
    budget = Budget(Clock())
    assert [budget.take(ALICE, VICTIM, 5), budget.take(ALICE, VICTIM, MUCH)] == [5, PEER[1] - 5]
    assert budget.take(ALICE, OTHER) == 0
    assert budget.take(BOB, OTHER) == 1


def test_it_fills_up_again_and_not_beyond() -> None:
    clock = Clock()
    budget = Budget(clock)
    budget.take(ALICE, VICTIM, MUCH)
    clock.now += 10
    assert budget.take(ALICE, VICTIM, MUCH) == 10 * PEER[0]
    clock.now += 1e6
    assert budget.take(ALICE, VICTIM, MUCH) == PEER[1]


def test_all_peers_together_have_one_budget_for_an_address() -> None:
    clock = Clock()
    budget = Budget(clock)
    assert sum(budget.take(peer, VICTIM, MUCH) for peer in PEERS) == HOST[1]
    clock.now += 1
    assert sum(budget.take(peer, VICTIM, MUCH) for peer in PEERS) == HOST[0]


def test_what_an_address_refuses_is_not_taken_from_the_peer() -> None:
    budget = Budget(Clock())
    for peer in PEERS[1:]:
        budget.take(peer, VICTIM, MUCH)
    assert budget.take(ALICE, VICTIM) == 0
    assert budget.take(ALICE, OTHER, MUCH) == PEER[1]


def test_the_addresses_of_one_ipv6_network_are_one_host() -> None:
    budget = Budget(Clock())
    hosts = [ip_address(f"2001:db8::{number:x}") for number in range(len(PEERS))]
    assert sum(budget.take(peer, host, MUCH) for peer, host in zip(PEERS, hosts, strict=True)) == HOST[1]
    assert budget.take(PEERS[-1], ip_address("2001:db8:0:1::1"), MUCH) == PEER[1]


def test_what_was_welcome_is_given_back_and_no_more() -> None:
    budget = Budget(Clock())
    budget.take(ALICE, VICTIM, 50)
    budget.give_back(ALICE, VICTIM, 30)
    assert budget.take(ALICE, VICTIM, MUCH) == PEER[1] - 20
    budget.give_back(ALICE, VICTIM, MUCH)
    assert budget.take(ALICE, VICTIM, MUCH) == PEER[1]


def test_ever_new_addresses_leave_little_behind() -> None:
    budget = Budget(Clock())
    for number in range(2 * KNOWN):
        budget.take(PEERS[number % 40], ip_address(number + 2**24))
    assert len(budget._buckets) == KNOWN
