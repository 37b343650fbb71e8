"""Where the nodes that answer see us (`ip` of BEP 42): a count of voices. Sans I/O."""

from __future__ import annotations

from collections import Counter, OrderedDict

from wgdisco.bep44.contact import host
from wgdisco.endpoint import Address, Endpoint

__all__ = ["Observed"]

VOICES = 64  # the newest hosts that are remembered
ENOUGH = 3  # hosts that must agree before we believe an address


class Observed:
    """One voice per host that answered: the endpoint at which it saw us last."""

    def __init__(self) -> None:
        self._voices: OrderedDict[bytes, Endpoint] = OrderedDict()

    def hear(self, said_by: Endpoint, seen: Endpoint) -> None:
        """Note what the node at `said_by` sees; another address family than its own is no observation."""
        if seen.address.version != said_by.address.version or not seen.port:
            return
        who = host(said_by.address) if said_by.address.is_global else str(said_by).encode()
        self._voices[who] = seen
        self._voices.move_to_end(who)
        if len(self._voices) > VOICES:
            self._voices.popitem(last=False)

    def endpoints(self) -> dict[Endpoint, int]:
        """Each endpoint with the number of hosts that saw us there, most first."""
        return dict(Counter(self._voices.values()).most_common())

    def address(self) -> Address | None:
        """Our public address, when at least three hosts and more than half of all agree on it."""
        votes = Counter(endpoint.address for endpoint in self._voices.values())
        if not votes:
            return None
        address, count = votes.most_common(1)[0]
        return address if count >= ENOUGH and 2 * count > votes.total() else None
