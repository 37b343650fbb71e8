"""Dynamic update (RFC 2136) with TSIG (RFC 8945): replace what was seen, delete, and say why a server refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wgdisco.backend import Secret
from wgdisco.backends._dns_ask import Asker, Where, texts
from wgdisco.errors import ConfigError, StoreError

if TYPE_CHECKING:
    import dns.name
    import dns.rdataset
    import dns.update

__all__ = ["Updater", "keyring"]

STRING = 255  # bytes of one string of a TXT record
TRIES = 4  # to replace a record that somebody else is writing too
EXPLAINED = {
    "REFUSED": "it does not allow this update; grant the key TXT records below the name, or set key_name",
    "NOTAUTH": "it does not serve the zone {zone!r} or does not accept the key {key!r}; correct zone or key_name",
    "NOTZONE": "the name is outside the zone {zone!r}",
    "NOTIMP": "it takes no dynamic updates",
    "SERVFAIL": "it failed to write; see its log",
}


def keyring(name: str, secret: Secret, algorithm: str) -> Any:
    """The TSIG key for dnspython, None without one; raises ConfigError, which never quotes the secret."""
    import dns.exception
    import dns.tsigkeyring

    if bool(name) != bool(secret):
        raise ConfigError(f"key_name {name!r} and key_secret go together, and only one of them is set")
    if not name:
        return None
    try:
        return dns.tsigkeyring.from_text({name: (algorithm, secret.reveal().strip())})
    except dns.exception.DNSException as error:
        raise ConfigError(f"key_name {name!r} is no domain name: {error}") from error
    except ValueError:
        raise ConfigError("key_secret is no base64; expected what stands after 'secret' in the key's file") from None


class Updater:
    """Sends the updates of one zone."""

    def __init__(self, zone: str, keys: Any) -> None:
        """Take the zone's name and a keyring, None to sign nothing."""
        self._zone, self._keys = zone, keys
        self._asker = Asker("tcp")  # over TCP a closed port shows at once, and a lost packet is sent again

    async def replace(self, name: dns.name.Name, blob: bytes, ttl: int, servers: list[Where]) -> None:
        """Put one TXT record in the place of those that are there; raises StoreError or OSError.

        Each update requires what was read just before: one that got lost on its way, and is carried out later than its
        successor, then does nothing.
        """
        wanted, before = _rdataset(blob, ttl), None
        for number in range(TRIES):
            seen = texts(await self._asker.ask(_question(name), servers))
            if seen == wanted and seen is not None and seen.ttl == ttl:
                return
            # what a wildcard answers cannot be required to be there: it is of another name
            there = None if number % 2 and seen == before else seen
            before = seen
            update = self._update()
            update.absent(name, "TXT") if there is None else update.present(name, *there)
            update.replace(name, wanted)
            if await self._sent(update, servers):
                return
        raise StoreError(f"the record {name} changed under {TRIES} attempts to replace it; who else writes it?")

    async def delete(self, name: dns.name.Name, servers: list[Where]) -> None:
        """Delete the TXT records of a name; raises StoreError or OSError."""
        update = self._update()
        update.delete(name, "TXT")
        await self._sent(update, servers)

    def _update(self) -> dns.update.UpdateMessage:
        import dns.update

        update = dns.update.UpdateMessage(self._zone)
        if self._keys is not None:
            update.use_tsig(self._keys)
        return update

    async def _sent(self, update: dns.update.UpdateMessage, servers: list[Where]) -> bool:
        """Whether it was carried out; False when something else was there than it requires."""
        import dns.exception
        import dns.rcode

        try:
            answer = await self._asker.send(update, servers)
        except dns.exception.DNSException as error:
            raise StoreError(f"the update was not accepted: {self._why(error)}") from error
        code = dns.rcode.to_text(answer.rcode())
        if code in ("NXRRSET", "YXRRSET", "NXDOMAIN", "YXDOMAIN"):
            return False
        if code != "NOERROR":
            why = EXPLAINED.get(code, "see its log").format(zone=self._zone, key=self._key)
            raise StoreError(f"the update was refused with {code}: {why}")
        return True

    @property
    def _key(self) -> str:
        return "" if self._keys is None else str(next(iter(self._keys))).rstrip(".")

    def _why(self, error: Exception) -> str:
        import dns.exception
        import dns.tsig

        if isinstance(error, dns.tsig.PeerBadKey):
            # Knot says so, too, when the key may not write this name
            return f"the server does not know the key {self._key!r}, or does not allow it this name; correct key_name"
        if isinstance(error, dns.tsig.PeerBadSignature | dns.tsig.BadSignature):
            return f"the secret of the key {self._key!r} is another one there; correct key_secret or key_algorithm"
        if isinstance(error, dns.tsig.PeerBadTime | dns.tsig.BadTime):
            return "the clocks of this machine and of the server differ by more than five minutes; set them"
        if isinstance(error, dns.exception.FormError):
            # Knot answers unsigned when the zone is not its own
            return f"the answer is not signed: the server does not serve {self._zone!r}, or wants another key"
        return str(error) or type(error).__name__


def _question(name: dns.name.Name) -> Any:
    """A question that is not passed on to other servers."""
    import dns.message

    return dns.message.make_query(name, "TXT", flags=0)


def _rdataset(blob: bytes, ttl: int) -> dns.rdataset.Rdataset:
    """One TXT record; its strings carry raw bytes."""
    import dns.rdataset
    import dns.rdtypes.ANY.TXT
    from dns.rdataclass import IN
    from dns.rdatatype import TXT

    strings = [blob[start : start + STRING] for start in range(0, len(blob), STRING)]
    return dns.rdataset.from_rdata(ttl, dns.rdtypes.ANY.TXT.TXT(IN, TXT, strings or [b""]))
