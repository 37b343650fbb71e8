"""Where the user says that this node is: `--endpoint`, a forwarded port, a host without STUN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wgdisco.endpoint import Endpoint
from wgdisco.policy import refused
from wgdisco.record import Kind
from wgdisco.sources import Found, Where

__all__ = ["StaticSource"]


@dataclass
class StaticSource:
    """Endpoints that are simply given; they are published as `mapped`."""

    endpoints: Sequence[Endpoint]
    name: str = "static"

    async def find(self, deadline: float) -> Where:  # noqa: ARG002 - nothing to wait for
        """The endpoints that a peer would try; the others are problems, with the reason."""
        where = Where()
        for endpoint in self.endpoints:
            if (reason := refused(endpoint)) is None:
                where.found.append(Found(endpoint, Kind.MAPPED, self.name, "given"))
            else:
                where.problems.append(f"{self.name}: {endpoint} is not published: no peer would try it ({reason})")
        return where
