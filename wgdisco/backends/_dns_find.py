"""Whom to ask about a zone, and whom to send its updates: from the options, from resolv.conf, or from DNS itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wgdisco.backends._dns_ask import PORTS, Asker, Where, addresses, names, split, system
from wgdisco.errors import StoreError

if TYPE_CHECKING:
    from wgdisco.backends.dns import DNS

__all__ = ["Finder"]

KNOWN_FOR = 600.0  # seconds for which the zone's servers are not looked up again


class Finder:
    """Finds servers; names are looked up in plain DNS."""

    def __init__(self, options: DNS) -> None:
        self._options = options
        self._plain = Asker("udp")
        self._known: list[Where] = []
        self._until = 0.0

    async def readers(self) -> list[Where]:
        """Whom to ask for records; raises OSError."""
        options = self._options
        if options.transport == "https":
            return [Where(options.resolver, PORTS["https"])]
        if options.direct:
            return await (self._at("server", options.server, options.transport) if options.server else self._of_zone())
        if options.resolver:
            return await self._at("resolver", options.resolver, options.transport)
        port = PORTS[options.transport]
        return [Where(each.address, port, each.address) for each in system()]

    async def writers(self) -> list[Where]:
        """Where updates go: the option `server`, or the primary server in the zone's SOA record."""
        if self._options.server:
            return await self._at("server", self._options.server, "tcp")
        zone = self._options.zone
        primary = await self._about_zone("SOA")
        if not primary:
            raise StoreError(f"there is no zone {zone!r} in DNS; correct the option zone, or set server")
        return [Where(each, PORTS["tcp"]) for each in await addresses(self._plain, primary[0], await self._recursive())]

    async def _at(self, option: str, text: str, transport: str) -> list[Where]:
        host, port = split(option, text, PORTS[transport])
        return [Where(each, port, host) for each in await addresses(self._plain, host)]

    async def _of_zone(self) -> list[Where]:
        """The zone's servers as its NS records name them, remembered for ten minutes."""
        if not self._known or time.monotonic() > self._until:
            recursive, port = await self._recursive(), PORTS[self._options.transport]
            self._known = [
                Where(address, port, host)
                for host in sorted(await self._about_zone("NS"))
                for address in await addresses(self._plain, host, recursive)
            ]
            self._until = time.monotonic() + KNOWN_FOR
        return self._known

    async def _about_zone(self, kind: str) -> list[str]:
        found = await names(self._plain, self._options.zone, kind, await self._recursive())
        return [each.rstrip(".") for each in found]

    async def _recursive(self) -> list[Where]:
        """Who looks things up: the resolver if one is set and speaks plain DNS, else the system's."""
        options = self._options
        plain = bool(options.resolver) and options.transport in ("udp", "tcp")
        return await self._at("resolver", options.resolver, "udp") if plain else system()
