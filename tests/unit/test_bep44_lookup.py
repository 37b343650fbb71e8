"""Whom a lookup asks, when it is over, and what nodes that lie can cost it."""

from __future__ import annotations

import os
from ipaddress import ip_address

import pytest

from wgdisco.bep44.channel import Patience
from wgdisco.bep44.contact import Contact, distance
from wgdisco.bep44.frontier import DOUBTFUL, MOST, REMEMBERED, WIDTH, Candidate, Frontier
from wgdisco.bep44.table import K
from wgdisco.endpoint import Endpoint

TARGET = bytes(20)
PATIENCE = 0.4


def contact(near: int, address: str = "127.0.0.1") -> Contact:
    """A node at the distance `near` from the target."""
    return Contact(near.to_bytes(20, "big"), Endpoint(ip_address(address), 1 + near % 65535))


def contacts(*near: int) -> list[Contact]:
    return [contact(each) for each in near]


def frontier(*near: int) -> Frontier:
    made = Frontier(TARGET, b"\xff" * 20)
    made.add(contacts(*near))
    return made


def drain(made: Frontier, now: float = 0.0) -> list[Candidate]:
    """All nodes that are to be asked now."""
    asked = []
    while (candidate := made.next(now, PATIENCE)) is not None:
        asked.append(candidate)
    return asked


def nears(candidates: list[Candidate]) -> list[int]:
    return [candidate.distance for candidate in candidates]


def test_the_nearest_are_asked_first_and_eight_at_once():
    assert nears(drain(frontier(*range(20, 0, -1)))) == list(range(1, WIDTH + 1))


def test_a_slow_node_gives_up_its_place_and_may_still_answer():
    made = frontier(*range(1, 30))
    slow = drain(made)[0]
    assert drain(made, PATIENCE - 0.01) == []
    assert len(drain(made, PATIENCE)) == WIDTH
    made.answered(slow)
    assert made.closest == [slow]


def test_it_is_over_when_the_eight_nearest_have_answered():
    made = frontier(*range(1, 30))
    asked = drain(made)
    for candidate in asked[:-1]:
        made.answered(candidate)
    assert made.wait(0.1, PATIENCE) > 0
    assert nears(drain(made, 0.1)) == list(range(9, 16))  # in case the eighth is silent
    made.answered(asked[-1])
    assert made.wait(0.1, PATIENCE) == 0
    assert nears(made.closest) == list(range(1, 9))


def test_a_nearer_silent_node_is_waited_for_and_a_farther_one_is_not():
    made = frontier(*range(1, 10))
    nearest, *rest = drain(made)
    for candidate in rest:
        made.answered(candidate)
    for candidate in drain(made, 0.1):
        made.answered(candidate)
    assert made.wait(0.1, PATIENCE) == pytest.approx(PATIENCE - 0.1)
    assert made.wait(PATIENCE, PATIENCE) == pytest.approx(1.5 * PATIENCE)
    made.give_up(2.5 * PATIENCE, PATIENCE)
    assert made.wait(2.5 * PATIENCE, PATIENCE) == 0
    assert nearest not in made.closest


def test_nodes_that_are_named_are_asked_when_they_are_nearer():
    made = frontier(*range(100, 108))
    first, *_ = drain(made)
    made.answered(first)
    made.add(contacts(5, 200), first.contact)
    assert nears(drain(made)) == [5]


def test_a_node_is_asked_once():
    made = frontier(1)
    (only,) = drain(made)
    made.answered(only)
    made.add(contacts(1), only.contact)
    assert drain(made) == []


def test_we_never_ask_ourselves():
    made = Frontier(TARGET, bytes(19) + b"\x05")
    made.add(contacts(5))
    assert drain(made) == []


def test_without_nodes_it_is_over_at_once():
    made = frontier()
    assert drain(made) == []
    assert made.wait(0.0, PATIENCE) == 0


def test_nobody_points_us_into_another_family_or_our_own_network():
    made = Frontier(TARGET, b"\xff" * 20)
    far = contact(2**100, "8.8.8.8")
    made.add([far])
    named = [
        contact(1, "::1"),
        contact(2, "192.168.1.1"),
        contact(3, "9.9.9.9"),
        contact(4, "9.9.9.9"),
        contact(5, "8.8.8.8"),
    ]
    made.add(named, far)
    assert [candidate.contact for candidate in drain(made)] == [named[2], far]  # and each public host once


def test_nodes_that_name_silent_ones_are_asked_out_first():
    """Forty liars name nodes right at the target that do not exist: the honest are asked all the same."""
    honest = [2**150 + index for index in range(8)]
    made = frontier(*honest)
    answering, now = {contact(each) for each in honest}, 0.0
    liars = [contact(2**140 + index) for index in range(40)]
    answering |= set(liars)
    made.add(liars)
    fakes = iter(range(1, 10_000))
    while True:
        made.give_up(now, PATIENCE)
        for candidate in drain(made, now):
            if candidate.contact in answering:
                made.answered(candidate)
                if candidate.contact in liars:
                    made.add(contacts(*(next(fakes) for _ in range(8))), candidate.contact)
        pause = made.wait(now, PATIENCE)
        if not pause:
            break
        now += pause
    assert made.asked <= MOST
    assert now < 12 * PATIENCE
    assert {candidate.contact for candidate in made.closest} <= answering
    assert len(made.closest) >= K


def test_nodes_that_only_a_liar_named_come_last_and_are_few():
    made = Frontier(TARGET, b"\xff" * 20)
    liar, honest = contact(2**100), contact(2**99)
    made.add([liar, honest])
    made.add(contacts(*range(1, 200)), liar)
    made.add(contacts(*range(1000, 1008)), honest)
    for candidate in drain(made):
        made.silent(candidate)
    second = drain(made)
    assert nears(second) == list(range(1000, 1008))
    for candidate in second[:4]:
        made.silent(candidate)
    doubtful: list[Candidate] = []
    for step in range(1, 50):
        asked = drain(made, float(step))
        doubtful += [candidate for candidate in asked if candidate.distance < 1000]
        made.give_up(step + 1.0, PATIENCE)
    assert len(doubtful) == DOUBTFUL


def test_what_is_remembered_and_asked_is_bounded():
    made = Frontier(TARGET, b"\xff" * 20)
    for voice in range(200):
        made.add(
            [Contact(os.urandom(20), Endpoint(ip_address("127.0.0.1"), 1 + index)) for index in range(8)],
            contact(2**150 + voice),
        )
    assert len(made._sorted) <= REMEMBERED
    now = 0.0
    for _ in range(1000):
        now += 1.0
        made.give_up(now, PATIENCE)
        drain(made, now)
    assert made.asked <= MOST


def test_the_farthest_are_forgotten_first():
    made = Frontier(TARGET, b"\xff" * 20)
    made.add(contacts(*range(1, REMEMBERED + 50)))
    assert max(candidate.distance for candidate in made._sorted) == REMEMBERED
    assert distance(made._sorted[0].contact.id, TARGET) == 1


def test_patience_follows_the_network():
    patience = Patience()
    assert patience.seconds == 0.4
    for _ in range(50):
        patience.took(0.001)
    assert patience.seconds == 0.15
    for _ in range(50):
        patience.took(0.3)
    assert 0.3 < patience.seconds <= 1.0
    patience.took(100.0)
    assert patience.seconds == 1.0
