"""The agent's work done once, for cron: publish, connect every peer, and say what is not as it should be."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from wgdisco.agent import Agent
from wgdisco.errors import NotFound, StoreError, UsageError
from wgdisco.session import Session
from wgdisco.tend import Tender

__all__ = ["once"]

GLANCE = 0.1  # seconds between two looks at how far it is


async def once(agent: Agent, patience: float) -> int:
    """Return 0 when our record is stored and every peer is there, at most `patience` seconds later.

    Raises StoreError when no backend stored our record, NotFound that names each peer which is not connected and why,
    UsageError when nobody could read the record.
    """
    end = time.monotonic() + patience
    async with agent.working() as session:
        if not session.announcer.audiences:
            raise UsageError("there is no peer that could read a record; add one, or choose --to network or --to key")
        while not _done(session) and time.monotonic() < end:  # noqa: ASYNC110 - many objects, no event in common
            await asyncio.sleep(GLANCE)
        if session.fleet is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.1, end - time.monotonic())):
                    await session.seeker.complete.wait()
            await session.fleet.freshen()
        published = session.announcer.publication
        if published is None or not published.stored:
            reasons = "".join(f"\n  {outcome.error}" for outcome in published.outcomes) if published else ""
            raise StoreError(f"our record was not stored within {patience:.0f} s:{reasons}")
        absent = [tender for tender in session.tenders.values() if not _there(tender)]
        if absent:
            reasons = "".join(f"\n  {tender.peer.short}: {_why(tender)}" for tender in absent)
            raise NotFound(f"{len(absent)} of {len(session.tenders)} peers are not connected:{reasons}")
    return 0


def _there(tender: Tender) -> bool:
    return tender.state in ("connected", "idle")


def _done(session: Session) -> bool:
    published = session.announcer.publication
    return published is not None and bool(published.stored) and all(map(_there, session.tenders.values()))


def _why(tender: Tender) -> str:
    if tender.outlook.latest is None:
        return "no record of it was found"
    if tender.outlook.verdict:
        return tender.outlook.verdict
    tried = ", ".join(endpoint.short for endpoint in tender.tried)
    return f"no handshake; tried {tried}" if tried else "its record names no endpoint that can be tried from here"
