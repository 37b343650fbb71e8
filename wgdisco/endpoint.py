"""An address and a port, as wg(8) writes them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from wgdisco.errors import UsageError

__all__ = ["Address", "Endpoint", "short"]

Address = IPv4Address | IPv6Address


class Endpoint(NamedTuple):
    """An IP address and a UDP port (1 … 65535); `str()` gives `192.0.2.1:51820` or `[2001:db8::1]:51820`."""

    address: Address
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read wg(8)'s form; raises UsageError quoting the text. Host names are not looked up."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        try:
            address = ip_address(host[1:-1] if bracketed else host)
        except ValueError:
            address = None
        if not colon or address is None or bracketed != (address.version == 6):
            raise UsageError(f"endpoint {text!r}: expected ADDRESS:PORT, as 192.0.2.1:51820 or [2001:db8::1]:51820")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise UsageError(f"endpoint {text!r}: the port {port!r} is not a number from 1 to 65535")
        return cls(address, int(port))

    @property
    def short(self) -> str:
        """The first half of the address, for logs: `192.0.…:51820`."""
        return (
            f"{short(self.address)}:{self.port}"
            if self.address.version == 4
            else f"[{short(self.address)}]:{self.port}"
        )

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def short(address: Address) -> str:
    """The first half of an address, for logs: `192.0.…` or `2001:db8:…`."""
    text = str(address)
    return f"{text.rsplit('.', 2)[0]}.…" if address.version == 4 else f"{text[:9]}…"
