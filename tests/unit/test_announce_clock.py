"""When a record is signed anew after the clock was set."""

from __future__ import annotations

import pytest

from tests.attacks.scene import HOUR, Scene, shelf
from tests.unit.records import ALICE, BOB, NOW, M, W
from wgdisco.announce import Announcer
from wgdisco.audience import Scope
from wgdisco.endpoint import Endpoint
from wgdisco.record import Kind
from wgdisco.sources import Found, Where

FOUND = Found(Endpoint.parse("203.0.113.1:51820"), Kind.MAPPED, "static", "")


async def published(folder, *steps: int) -> list[int]:
    """When the records were issued that are current at the beginning and after each step (milliseconds)."""

    async def gather(_: bool) -> Where:
        return Where([FOUND])

    scene = Scene(folder)
    node = scene.node(ALICE, shelf())
    announcer = Announcer(node, gather, node.readers(Scope.PEERS, [BOB.public]), lambda _: None)
    issued = []
    for step in (0, *steps):
        scene.clock.now += step
        issued.append((await announcer.once()).issued)
    await scene.close()
    return issued


@pytest.mark.parametrize("step", [HOUR, -HOUR, -W + M - 1])
async def test_after_a_step_the_next_look_signs_anew(tmp_path, step) -> None:
    assert await published(tmp_path, step) == [NOW, NOW + step]


async def test_a_step_back_that_readers_tolerate_is_no_reason(tmp_path) -> None:
    """What would be signed could only be dated later still: again and again until the clock is there."""
    assert await published(tmp_path, -W + M, 100_000, 100_000) == [NOW] * 4


async def test_a_clock_that_goes_signs_anew_after_a_third_of_the_lifetime(tmp_path) -> None:
    assert await published(tmp_path, 1_199_999, 1) == [NOW, NOW, NOW + 1_200_000]
