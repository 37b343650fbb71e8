"""DNS as a store: one TXT record per slot under a zone, written by dynamic update (RFC 2136) with TSIG (RFC 8945).

The strings of a TXT record carry raw bytes (RFC 1035 section 3.3.14), so nothing is encoded; only the APIs of hosted
DNS are given the text form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from wgdisco.backend import Backend, Secret, Slot, from_text
from wgdisco.backends._dns_ask import PAYLOAD, Asker, texts
from wgdisco.backends._dns_find import Finder, split
from wgdisco.backends._dns_hosted import Hosted
from wgdisco.backends._dns_update import Updater, keyring
from wgdisco.errors import ConfigError, StoreError
from wgdisco.hookspecs import hookimpl

if TYPE_CHECKING:
    import dns.name

__all__ = ["DNS", "wgdisco_backends"]

BLOB = b"\x01"  # what every blob begins with, and no text (SPEC section 4)
SLOT = 33  # bytes of a slot's label in a name


@dataclass
class DNS(Backend):
    """TXT records in a DNS zone, published by dynamic update (RFC 2136) or a provider's API, found by any resolver."""

    name: ClassVar[str] = "dns"

    zone: str
    """The zone that the server serves, as `example.org`."""
    subdomain: str = ""
    """Labels between the slot's name and the zone, to grant rights on; empty for none."""
    server: str = ""
    """HOST:PORT that takes updates; empty for the primary server in the zone's SOA record."""
    key_name: str = ""
    """The name of the TSIG key, with `key_secret`; only who publishes needs it."""
    key_secret: Secret = field(default_factory=Secret)
    """The key in base64, as `tsig-keygen` and `keymgr -t` print it."""
    key_algorithm: Literal["hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha1", "hmac-md5"] = (
        "hmac-sha256"
    )
    """The algorithm of the TSIG key."""
    resolver: str = ""
    """HOST:PORT to ask, with `https` a URL; empty for the servers in /etc/resolv.conf."""
    direct: bool = False
    """Whether to ask the zone's own servers instead of a resolver, so that nothing is cached."""
    transport: Literal["udp", "tcp", "tls", "https"] = "udp"
    """How to ask; `udp` goes on to TCP where it must, and `https` needs the extra `doh`."""
    ca: str = ""
    """File of the certificate authority for `tls` and `https` (PEM); empty for the system's."""
    ttl: Annotated[int, Meta(ge=0, le=86400)] = 30
    """Seconds for which resolvers may remember a record."""
    provider: str = ""
    """Publish through the API of this provider, as dns-lexicon names it (`cloudflare`); needs the extra `lexicon`."""
    provider_auth: dict[str, Secret] = field(default_factory=dict)
    """What the provider's API wants for credentials, as dns-lexicon names it: `auth_token` and so on."""
    provider_options: dict[str, str] = field(default_factory=dict)
    """Other options of the provider, as dns-lexicon names them: `zone_id` and so on."""

    async def open(self) -> None:
        """Check the options, raising ConfigError; servers are asked when needed."""
        self._check_options()
        self._origin = _origin(self.subdomain, self.zone)
        keys = keyring(self.key_name, self.key_secret, self.key_algorithm)
        self._finder, self._updater = Finder(self), Updater(self.zone, keys)
        self._asker = Asker(self.transport, self.ca)
        self._hosted = None
        if self.provider:
            self._hosted = Hosted(self.provider, self.zone, self.provider_auth, self.provider_options)
            await self._hosted.open()

    async def close(self) -> None:
        """Close the connection to an HTTPS resolver and end the thread; what was stored stays until it is removed."""
        hosted: Hosted | None = getattr(self, "_hosted", None)
        if hosted is not None:
            await hosted.close()
        asker: Asker | None = getattr(self, "_asker", None)
        if asker is not None:
            await asker.close()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Replace what the slot holds, if it still is what was read just before; raises StoreError or OSError.

        A provider's API knows no such condition: there the last writer wins.
        """
        if self._hosted is not None:
            await self._hosted.replace(self._text(slot), blob, min(self.ttl, lifetime))
            return
        servers = await self._finder.writers()
        await self._updater.replace(self._name(slot), blob, min(self.ttl, lifetime), servers)

    async def get(self, slot: Slot) -> list[bytes]:
        """Every TXT record of the slot's name; raises OSError when no server answers."""
        import dns.flags
        import dns.message

        query = dns.message.make_query(self._name(slot), "TXT", use_edns=0, payload=PAYLOAD)
        if self.direct:
            query.flags &= ~dns.flags.RD
        answer = await self._asker.ask(query, await self._finder.readers())
        if self.direct and not answer.flags & dns.flags.AA:
            raise StoreError(f"the server asked does not serve the zone {self.zone!r} itself; correct zone or server")
        return [_value(b"".join(each.strings)) for each in texts(answer) or ()]

    async def remove(self, slot: Slot) -> None:
        """Delete the TXT records of the slot's name; raises StoreError or OSError."""
        if self._hosted is not None:
            await self._hosted.delete(self._text(slot))
            return
        await self._updater.delete(self._name(slot), await self._finder.writers())

    def _name(self, slot: Slot) -> dns.name.Name:
        import dns.name

        return dns.name.from_text(slot.text, self._origin)

    def _text(self, slot: Slot) -> str:
        return self._name(slot).to_text(omit_final_dot=True).lower()

    def _check_options(self) -> None:
        if self.provider and self.key_name:
            raise ConfigError(f"provider {self.provider!r} and key_name {self.key_name!r}: choose one way to publish")
        if not self.provider and (self.provider_auth or self.provider_options):
            raise ConfigError("provider_auth and provider_options need a provider, as 'cloudflare'")
        https = self.transport == "https"
        if https and (self.direct or not self.resolver.startswith("https://")):
            raise ConfigError(
                "transport 'https' needs a resolver like 'https://dns.example/dns-query', and direct = false; "
                f"resolver is {self.resolver!r}"
            )
        for option, text in (("server", self.server), ("resolver", "" if https else self.resolver)):
            if text:
                split(option, text, 53)
        if self.ca and self.transport not in ("tls", "https"):
            raise ConfigError(f"ca {self.ca!r} is for the transports tls and https, not for {self.transport!r}")


def _origin(subdomain: str, zone: str) -> dns.name.Name:
    """What every slot's name ends with; raises ConfigError when that is no name, or leaves no room for a slot's."""
    import dns.exception
    import dns.name

    text = f"{subdomain.rstrip('.')}.{zone}" if subdomain else zone
    try:
        origin = dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ConfigError(f"subdomain and zone make {text!r}, which is no domain name: {error}") from error
    if origin == dns.name.root or sum(map(len, origin.labels)) + len(origin.labels) + SLOT > 255:
        raise ConfigError(f"zone {text!r}: expected a domain name of at most {254 - SLOT} characters, as 'example.org'")
    return origin


def _value(raw: bytes) -> bytes:
    """A record's bytes; the text form of a blob, which is all that some providers let one type in, is decoded."""
    blob = from_text(raw.decode("latin-1"))
    return blob if blob is not None and blob.startswith(BLOB) else raw


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [DNS]
