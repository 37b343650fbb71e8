"""What a router's no means, in a sentence: the result's name in its RFC, and whether to go on asking."""

from __future__ import annotations

from wgdisco.device.routes import Route
from wgdisco.endpoint import Address, Endpoint
from wgdisco.policy import is_private, refused
from wgdisco.sources._portmap_pcp import SUCCESS, TEMPORARY, Reply

__all__ = ["Refused", "require", "require_reachable", "silence", "told"]


class Refused(OSError):  # noqa: N818 - named after what the router did
    """The router's no; the text says to what and why.

    `soon`: it may be another answer in a minute. `last`: other protocols need not be tried.
    """

    def __init__(self, text: str, *, soon: bool = False, last: bool = False) -> None:
        super().__init__(text)
        self.soon, self.last = soon, last


def require(reply: Reply, protocol: str, router: Address | None, port: int, before: str = "") -> None:
    """Raise Refused unless the reply is a success; `before` is what another protocol had to say."""
    if reply.result != SUCCESS:
        text = f"{before}the router {router} refuses to forward UDP port {port}: {reply.result} ({protocol})"
        # a router that is not next to us would forward the port of whoever stands between
        raise Refused(text, soon=reply.result in TEMPORARY, last=reply.result == "ADDRESS_MISMATCH")


def require_reachable(address: Address, router: Address | None) -> None:
    """Raise Refused for an outer address at which nobody reaches the router."""
    what = f"the router {router} has {address} outside"
    if is_private(address):
        text = f"{what}, a private address: it is behind another NAT, and a port forwarded there is not reached"
        raise Refused(text, last=True)
    if (reason := refused(Endpoint(address, 1))) is not None:
        raise Refused(f"{what}, which nobody can reach: {reason}", soon=True, last=True)


def silence(way: Route, port: int) -> str:
    """What to do about a router that answers nothing."""
    if way.source.version == 6:
        return f"the router {way.gateway} does not answer PCP; let its firewall pass UDP port {port} to {way.source}"
    return (
        f"the router {way.gateway} answers neither PCP, NAT-PMP nor UPnP; forward UDP port {port} there by hand and "
        "name it with --endpoint ADDRESS:PORT"
    )


def told(refusal: OSError) -> str:
    """What one protocol had to say, before what the next one has; silence is not worth a word."""
    return f"{refusal}; " if isinstance(refusal, Refused) else ""
