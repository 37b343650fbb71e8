"""Which of our endpoints may be published, and which of a peer's may be tried, with the reason when not.

Private addresses are tried: both homes may be 192.168.1.0/24, and only a check can tell. What decides is the kernel's
own route, looked up with the interface's fwmark: nothing is ever sent towards WireGuard through WireGuard.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from wgdisco.device.routes import Route
from wgdisco.endpoint import Address, Endpoint
from wgdisco.record import MOST_CANDIDATES, Candidate, Kind
from wgdisco.sources import Found

__all__ = ["Ground", "Sites", "inside", "is_plausible", "is_private", "publishable", "refused", "supposed", "tryable"]

Network = IPv4Network | IPv6Network
Lookup = Callable[[Address], Route | None]

PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
UNICAST_V6 = tuple(map(ip_network, ("2000::/3", "fc00::/7", "64:ff9b::/96", "64:ff9b:1::/48")))
NAT64 = ip_network("64:ff9b::/96")
THIS_NETWORK = ip_network("0.0.0.0/8")
MOST = {0: 6, 1: 4, 2: 4, 3: 4, 4: 4}  # candidates of one rank, so that many of one kind push none of another out


@dataclass(frozen=True, slots=True)
class Ground:
    """What a peer's candidates are judged against: routes (looked up with the fwmark), our endpoints, AllowedIPs."""

    lookup: Lookup
    own: Collection[Endpoint] = ()
    allowed_ips: Iterable[Network] | Sites = ()


def is_private(address: Address) -> bool:
    """Whether an address means something in one site only: RFC 1918, RFC 6598 (carrier NAT), RFC 4193 (ULA)."""
    return any(address in network for network in PRIVATE)


class Sites:
    """AllowedIPs of one or ten thousand peers, to be asked which of them an address lies in.

    Networks that reach beyond private space are full tunnels in one or many pieces; they say nothing about it.
    """

    def __init__(self, allowed_ips: Iterable[Network]) -> None:
        self._sites = {each for each in allowed_ips if any(_within(each, network) for network in PRIVATE)}
        self._lengths = {version: self._lengths_of(version) for version in (4, 6)}

    def _lengths_of(self, version: int) -> list[int]:
        return sorted({each.prefixlen for each in self._sites if each.version == version}, reverse=True)

    def around(self, address: Address) -> Network | None:
        """The narrowest one with this address in it, where WireGuard would send it."""
        kind = IPv4Network if isinstance(address, IPv4Address) else IPv6Network
        around = (kind((int(address), length), strict=False) for length in self._lengths[address.version])
        return next((each for each in around if each in self._sites), None)


def inside(address: Address, allowed_ips: Iterable[Network] | Sites) -> Network | None:
    """The AllowedIPs that say a private address lies at the other end of a tunnel."""
    return (allowed_ips if isinstance(allowed_ips, Sites) else Sites(allowed_ips)).around(address)


def refused(endpoint: Endpoint) -> str | None:
    """Why nobody should ever send to an endpoint, whoever it belongs to; None when there is no such reason."""
    if not 0 < endpoint.port < 65536:
        return f"port {endpoint.port}"
    return _refused(endpoint.address)


def is_plausible(said: Endpoint, by: Endpoint) -> bool:
    """Whether a server may truly have seen, or have, this endpoint: only a server in a site speaks of that site."""
    reason = refused(said)
    if is_private(said.address) and not is_private(by.address) and not by.address.is_loopback:
        return False
    return reason is None or reason == refused(by)


def publishable(found: Iterable[Found], audience: str = "peers", *, expose_hosts: bool = False) -> list[Candidate]:
    """At most 16 candidates, best first: LAN, global, reflexive, mapped, observed.

    Host candidates are left out for the audience `key`, unless exposed on purpose: they tell what a home looks like
    inside. An endpoint that is also seen from outside is no secret of the host, and counts as reflexive.
    """
    kinds: dict[Endpoint, Kind] = {}
    ranks: dict[Endpoint, int] = {}
    for each in found:
        if refused(each.endpoint) is None:
            kinds[each.endpoint] = max(kinds.get(each.endpoint, Kind.HOST), each.kind, key=_precedence)
            ranks[each.endpoint] = min(ranks.get(each.endpoint, len(MOST)), _rank(each))
    hidden = audience == "key" and not expose_hosts
    chosen = [
        Candidate(kinds[endpoint], endpoint)
        for rank, most in MOST.items()
        for endpoint in [each for each in kinds if ranks[each] == rank][:most]
        if not (hidden and kinds[endpoint] is Kind.HOST)
    ]
    return chosen[:MOST_CANDIDATES]


def tryable(candidates: Sequence[Candidate], ground: Ground) -> list[tuple[Candidate, str | None]]:
    """Each candidate, in its order, with the reason why it must not be tried, or None."""
    return list(_judged(candidates, ground))


def supposed(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Where a NAT that keeps ports if it can may have put a host towards us, whatever port it gave it towards others.

    Linux does so: after a host has come back with another address, its port is taken towards whom the old one spoke
    to, and free towards the rest. Nobody signed these endpoints, so they are only checked.
    """
    ports = dict.fromkeys(each.endpoint.port for each in candidates if each.kind is Kind.HOST)
    seen = [each.endpoint.address for each in candidates if each.kind is Kind.SERVER_REFLEXIVE]
    named = {each.endpoint for each in candidates}
    places = [Endpoint(address, port) for address in seen if address.version == 4 for port in ports]
    return [Candidate(Kind.OBSERVED, place) for place in dict.fromkeys(places) if place not in named]


def _judged(candidates: Sequence[Candidate], ground: Ground) -> Iterator[tuple[Candidate, str | None]]:
    named: set[Endpoint] = set()
    for candidate in candidates:
        again = candidate.endpoint in named
        named.add(candidate.endpoint)
        reason = "named twice" if again else refused(candidate.endpoint) or _unreachable(candidate.endpoint, ground)
        yield candidate, reason


def _unreachable(endpoint: Endpoint, ground: Ground) -> str | None:
    """Why this host must not send to an endpoint that others may."""
    if endpoint in ground.own:
        return "our own endpoint"
    route = ground.lookup(endpoint.address)
    if route is None:
        return f"no IPv{endpoint.address.version} route"
    if route.ours:
        return "an address of this host"
    if not route.one:
        return "a broadcast address"
    if route.wireguard:
        return f"its route leaves by the WireGuard interface {route.interface}"
    tunnelled = None if route.on_link else inside(endpoint.address, ground.allowed_ips)
    return None if tunnelled is None else f"inside AllowedIPs {tunnelled}, and on no link of ours"


def _rank(found: Found) -> int:
    if found.kind is Kind.HOST:
        return 0 if is_private(found.endpoint.address) else 1
    return 1 + int(found.kind)


def _precedence(kind: Kind) -> int:
    """Of two kinds of one endpoint, seen from outside says more than being ours or being configured."""
    return (Kind.HOST, Kind.OBSERVED, Kind.MAPPED, Kind.SERVER_REFLEXIVE).index(kind)


def _refused(address: Address) -> str | None:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return "an IPv4 address written as IPv6"
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_loopback:
        return "loopback"
    if address.is_multicast:
        return "multicast"
    if address.is_link_local:
        return "link-local"
    return _refused_v4(address) if isinstance(address, IPv4Address) else _refused_v6(address)


def _refused_v4(address: IPv4Address) -> str | None:
    if address == IPv4Address("255.255.255.255"):
        return "broadcast"
    if address in THIS_NETWORK or address.is_reserved:
        return "reserved"
    return None


def _refused_v6(address: IPv6Address) -> str | None:
    if not any(address in network for network in UNICAST_V6):
        return "reserved"
    inner = address.sixtofour or (IPv4Address(address.packed[12:]) if address in NAT64 else None)
    reason = None if inner is None else _refused(inner)
    return None if reason is None else f"the IPv4 address in it is {reason}"


def _within(network: Network, outer: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(outer, IPv4Network) and network.subnet_of(outer)
    return isinstance(outer, IPv6Network) and network.subnet_of(outer)
