"""What becomes of our records in the stores: put again where they were lost, removed where their time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing

from wgdisco.audience import BIGGEST, Audience
from wgdisco.backend import Slot
from wgdisco.discovery import Deposit
from wgdisco.errors import RecordRefused, WgdiscoError
from wgdisco.freshness import Marks, read
from wgdisco.node import Node
from wgdisco.publication import Publisher
from wgdisco.store import Store

__all__ = ["repair", "tidy"]

HORIZON = 86_400_000  # milliseconds: no record lives longer (SPEC section 5)


async def repair(node: Node, audiences: Sequence[Audience], outdone: Callable[[], None] = lambda: None) -> list[str]:
    """Read our own slots back and put the identical bytes again where they are missing; the stores repaired.

    A store may have lost what it took, been down when we published, or have been overwritten by somebody. What our own
    key signed later than our latest record stays, and `outdone` is told: another host uses the key. Stores of small
    values are left alone: what they hold was cut to their size.
    """
    now = node.clock()
    deposits = Publisher(node.signer, node.state, node.clock).latest(audiences, now)
    places = {
        place.id: place for audience in audiences for place in audience.writable(node.signer.public, now, now + HORIZON)
    }

    def later(deposit: Deposit, value: bytes) -> bool:
        place = places.get(deposit.slot.id)
        ours = node.state.published(place.network) if place is not None else None
        if place is None or ours is None:
            return False
        try:
            return read(value, place, Marks(), now).record.issued > ours.issued
        except RecordRefused:
            return False

    whole = [store for store in node.stores if store.backend.max_size >= BIGGEST and not store.rests]
    mended = await asyncio.gather(*(_mend(store, deposits, later, outdone) for store in whole))
    return [name for name in mended if name]


async def _mend(
    store: Store, deposits: Sequence[Deposit], later: Callable[[Deposit, bytes], bool], outdone: Callable[[], None]
) -> str | None:
    missing = {deposit.slot.id: deposit for deposit in deposits}
    try:
        async with aclosing(store.fetch([deposit.slot for deposit in deposits])) as answers:
            async for slot, values in answers:
                wanted = missing.get(slot.id)
                if wanted is None:
                    continue
                if any(later(wanted, value) for value in values if value != wanted.blob):
                    outdone()
                    del missing[slot.id]
                elif wanted.blob in values:
                    del missing[slot.id]
        for deposit in missing.values():
            await store.put(deposit.slot, deposit.blob, deposit.lifetime)
    except WgdiscoError:
        return None
    return store.name if missing else None


async def tidy(node: Node) -> int:
    """Remove our slots of past periods from the stores; how many were removed. Failures are tried again later."""
    stores, removed = {store.name: store for store in node.stores}, 0
    for written in node.state.obsolete(node.clock()):
        store = stores.get(written.backend)
        if store is None or store.writing.seconds:
            continue
        try:
            await store.remove(Slot(written.id, written.text, written.public))
        except WgdiscoError:
            continue
        node.state.forget(written)
        removed += 1
    return removed
