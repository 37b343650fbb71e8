"""Whom to ask about a zone, and whom to send its updates: from the options, from resolv.conf, or from DNS itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wgdisco.backends._dns_ask import PAYLOAD, PORTS, Asker, Where, answers
from wgdisco.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from wgdisco.backends.dns import DNS

__all__ = ["Finder", "split"]

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
        return [Where(each.address, port, each.address) for each in _system()]

    async def writers(self) -> list[Where]:
        """Where updates go: the option `server`, or the primary server in the zone's SOA record."""
        if self._options.server:
            return await self._at("server", self._options.server, "tcp")
        zone = self._options.zone
        primary = await self._about_zone("SOA")
        if not primary:
            raise StoreError(f"there is no zone {zone!r} in DNS; correct the option zone, or set server")
        return [
            Where(each, PORTS["tcp"]) for each in await _addresses(self._plain, primary[0], await self._recursive())
        ]

    async def _at(self, option: str, text: str, transport: str) -> list[Where]:
        host, port = split(option, text, PORTS[transport])
        return [Where(each, port, host) for each in await _addresses(self._plain, host)]

    async def _of_zone(self) -> list[Where]:
        """The zone's servers as its NS records name them, remembered for ten minutes."""
        if not self._known or time.monotonic() > self._until:
            recursive, port = await self._recursive(), PORTS[self._options.transport]
            self._known = [
                Where(address, port, host)
                for host in sorted(await self._about_zone("NS"))
                for address in await _addresses(self._plain, host, recursive)
            ]
            self._until = time.monotonic() + KNOWN_FOR
        return self._known

    async def _about_zone(self, kind: str) -> list[str]:
        found = await _names(self._plain, self._options.zone, kind, await self._recursive())
        return [each.rstrip(".") for each in found]

    async def _recursive(self) -> list[Where]:
        """Who looks things up: the resolver if one is set and speaks plain DNS, else the system's."""
        options = self._options
        plain = bool(options.resolver) and options.transport in ("udp", "tcp")
        return await self._at("resolver", options.resolver, "udp") if plain else _system()


def split(option: str, text: str, port: int) -> tuple[str, int]:
    """Host and port of HOST, HOST:PORT, ADDRESS:PORT, V6 or [V6]:PORT; raises ConfigError quoting option and text."""
    host, number = text, str(port)
    if text.startswith("[") and "]" in text:
        host, _, rest = text[1:].partition("]")
        number = rest.removeprefix(":") or number
    elif text.count(":") == 1:
        host, _, number = text.partition(":")
    if not host or "[" in host or not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        raise ConfigError(f"{option} {text!r}: expected HOST:PORT, as 'ns1.example.org:53' or '[2001:db8::1]:53'")
    return host, int(number)


def _system() -> list[Where]:
    """The servers in resolv.conf as it is now; raises OSError when there are none."""
    import dns.resolver

    try:
        found = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration as error:
        raise OSError("/etc/resolv.conf names no DNS server; set the option resolver") from error
    return [Where(str(each), PORTS["udp"]) for each in found if isinstance(each, str)]


async def _addresses(asker: Asker, host: str, servers: Sequence[Where] | None = None) -> list[str]:
    """The addresses of a host, IPv4 first, asked of `servers` or the system's; a numeric one is its own.

    Raises OSError when it has none.

    Not by getaddrinfo(3): its threads keep the process alive for as long as DNS is silent.
    """
    import dns.inet

    if dns.inet.is_address(host):
        return [host]
    if host == "localhost":
        return ["127.0.0.1", "::1"]
    servers = _system() if servers is None else servers
    found = [text for kind in ("A", "AAAA") for text in await _names(asker, host, kind, servers)]
    if not found:
        raise OSError(f"the name {host!r} has no address in DNS")
    return found


async def _names(asker: Asker, name: str, kind: str, servers: Sequence[Where]) -> list[str]:
    """The texts of all records of a kind: addresses, or the names of servers (of SOA: the primary one)."""
    import dns.message

    answer = await asker.ask(dns.message.make_query(name, kind, use_edns=0, payload=PAYLOAD), servers)
    return [each.to_text().split()[0] for each in answers(answer) or ()]
