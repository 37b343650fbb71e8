"""Where am I? Sources are asked all at once; each gives endpoints with their provenance, a NAT verdict, or problems.

```
where = await gather([InterfaceSource(51820), StunSource(port), StaticSource([endpoint])])
where.found, where.nat, where.problems
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from wgdisco.backend import ordinary
from wgdisco.endpoint import Endpoint
from wgdisco.record import Kind

__all__ = ["DEADLINE", "Behaviour", "Found", "Nat", "Source", "Where", "gather"]

DEADLINE = 3.0
"""Seconds a source has by default; a STUN server is asked three times within it."""
GRACE = 0.5  # seconds more for a source that does not watch its deadline


class Behaviour(StrEnum):
    """How a NAT or firewall maps or filters, in the names of RFC 5780 section 4 (and RFC 4787)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    UNKNOWN = "unknown"


class Nat(NamedTuple):
    """What is known about the NAT before us.

    `translated` says whether it changes our address or port at all, None when nothing is known. A mapping that is at
    least address-dependent (two servers saw two ports) is called ADDRESS_DEPENDENT unless RFC 5780's tests say more.
    """

    mapping: Behaviour = Behaviour.UNKNOWN
    filtering: Behaviour = Behaviour.UNKNOWN
    translated: bool | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An endpoint where we may be reached, how we know, which source says so, and its remark for people."""

    endpoint: Endpoint
    kind: Kind
    source: str
    detail: str = ""


@dataclass
class Where:
    """What the sources know together; `problems` are sentences that begin with the source's name.

    `asked` says that somebody outside was asked where he sees us, with or without an answer.
    """

    found: list[Found] = field(default_factory=list)
    nat: Nat = field(default_factory=Nat)
    problems: list[str] = field(default_factory=list)
    asked: bool = False


class Source(Protocol):
    """Something that may know where we are."""

    @property
    def name(self) -> str:
        """What messages call it."""

    async def find(self, deadline: float) -> Where:
        """What is known within `deadline` seconds; may raise anything, which hides no other source."""


async def gather(sources: Iterable[Source], deadline: float = DEADLINE) -> Where:
    """Ask all sources at once, for at most `deadline` seconds (and a little); what each knows, in their order."""
    tasks = [asyncio.ensure_future(_ask(source, deadline)) for source in sources]
    try:
        answers = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return Where(
        found=[found for answer in answers for found in answer.found],
        nat=next((answer.nat for answer in answers if answer.nat != Nat()), Nat()),
        problems=[problem for answer in answers for problem in answer.problems],
        asked=any(answer.asked for answer in answers),
    )


async def _ask(source: Source, deadline: float) -> Where:
    try:
        async with asyncio.timeout(deadline + GRACE):
            return await ordinary(lambda: source.find(deadline))
    except TimeoutError:
        return Where(problems=[f"{source.name}: no result within {deadline:g} s"])
    except Exception as error:  # noqa: BLE001 - sources may be plugins, and one must not hide the others
        return Where(problems=[f"{source.name}: {str(error) or type(error).__name__}"])
