"""pkarr relays as a store: a signed DNS packet per slot key, by PUT and GET, which relays keep in the Mainline DHT.

A relay cannot forge: the packet is signed under the slot's own key (pkarr design/base.md and relays.md, BEP 44).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from urllib.parse import urlsplit

from wgdisco import keys
from wgdisco.backend import Backend, Slot
from wgdisco.backends._retry_after import retry_after
from wgdisco.errors import ConfigError, RetryLater, StoreError
from wgdisco.hookspecs import hookimpl

if TYPE_CHECKING:
    import httpx2

__all__ = ["RELAYS", "Pkarr", "pack", "unpack", "wgdisco_backends", "z_base_32"]

RELAYS = ("https://pkarr.pubky.app", "https://pkarr.pubky.org")
"""Public relays; whoever runs one sets its own `relays`."""
CONNECT, SILENCE = 2.0, 6.0  # seconds at most: to connect, and without a byte; a relay asks the DHT meanwhile
GRACE = 1.0  # seconds the other relays get once one had a value
LATER = 60.0  # seconds to stay away from a relay that does not say for how long
HEAD, PACKET, STRING = 72, 1000, 255  # bytes: signature and timestamp, a DNS packet at most, one string of a TXT
ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"
LABEL, TTL = "_wg", 300  # the record's name under the key, and seconds it may be cached, the least relays take


def z_base_32(data: bytes) -> str:
    """The z-base-32 text of bytes, as pkarr writes keys: 52 characters for 32 bytes."""
    digits = -(-len(data) * 8 // 5)
    number = int.from_bytes(data) << (digits * 5 - len(data) * 8)
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(digits)))


def pack(slot: Slot, blob: bytes) -> bytes:
    """The body of a PUT: signature, timestamp (1000 times the slot's seq, SPEC section 4), DNS packet with one TXT.

    Raises StoreError for a blob (of more than about 900 bytes) whose packet is over 1000 bytes.
    """
    import dns.flags
    import dns.message
    import dns.rdataclass
    import dns.rdatatype
    import dns.rdtypes.ANY.TXT
    import dns.rrset

    strings = [blob[start : start + STRING] for start in range(0, len(blob), STRING)] or [b""]
    text = dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
    message = dns.message.Message(id=0)
    message.flags = dns.flags.QR
    message.answer.append(dns.rrset.from_rdata(_name(slot), TTL, text))
    packet = message.to_wire()
    if len(packet) > PACKET:
        raise StoreError(f"a blob of {len(blob)} bytes makes a packet of {len(packet)}; relays take {PACKET}")
    timestamp = 1000 * slot.seq
    return slot.sign(timestamp, packet) + timestamp.to_bytes(8) + packet


def unpack(slot: Slot, body: bytes) -> list[bytes]:
    """The blobs in a relay's answer; none unless the packet's signature is right under the slot's key."""
    import dns.exception
    import dns.message
    import dns.rdatatype

    signature, timestamp, packet = body[:64], int.from_bytes(body[64:HEAD]), body[HEAD:]
    signed = b"3:seqi%de1:v%d:%b" % (timestamp, len(packet), packet)
    if not HEAD < len(body) <= HEAD + PACKET or not keys.verify(slot.public, signed, signature):
        return []
    try:
        answers = dns.message.from_wire(packet).answer
    except (dns.exception.DNSException, ValueError):
        return []
    texts = [each for each in answers if each.rdtype == dns.rdatatype.TXT and each.name.to_text() == _name(slot)]
    return [b"".join(data.strings) for each in texts for data in each]


def _name(slot: Slot) -> str:
    return f"{LABEL}.{z_base_32(slot.public)}."


class Answer(NamedTuple):
    """What a relay said: status, headers, and the body unless it is too long for a packet."""

    status: int
    headers: httpx2.Headers
    body: bytes


@dataclass
class Pkarr(Backend):
    """pkarr relays, and by them the BitTorrent DHT, for who may only speak HTTP; changes are polled."""

    name: ClassVar[str] = "pkarr"
    keeps: ClassVar[float] = 7200.0
    poll: ClassVar[float] = 60.0
    slow_writes: ClassVar[bool] = True
    deadline: ClassVar[float] = 8.0

    relays: list[str] = field(default_factory=lambda: list(RELAYS))
    """Relays, each a URL; all are written to, and all are asked."""

    async def open(self) -> None:
        """Check the options, raising ConfigError; connections are made when needed."""
        import dns.message  # noqa: F401 - when it is missing, the core names the extra
        import httpx2

        _check(self.relays)
        self._broken = (httpx2.HTTPError, OSError)
        self._client = httpx2.AsyncClient(
            verify=any(relay.startswith("https:") for relay in self.relays),
            trust_env=False,  # neither a proxy, a .netrc nor other certificates by environment
            headers={"Accept-Encoding": "identity", "User-Agent": "wgdisco"},
            timeout=httpx2.Timeout(SILENCE, connect=CONNECT),
        )

    async def close(self) -> None:
        """Close the connections; what was stored stays."""
        client: httpx2.AsyncClient | None = getattr(self, "_client", None)
        if client is not None:
            await client.aclose()

    async def moved(self) -> None:
        """Connect anew: nobody answers on connections from an address that has gone."""
        await self.close()
        await self.open()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:  # noqa: ARG002 - the DHT keeps for two hours
        """Put the packet on every relay at once; one that takes it is enough. Raises StoreError or RetryLater."""
        body = pack(slot, blob)
        told = await asyncio.gather(*(self._put(relay, slot, body) for relay in self.relays), return_exceptions=True)
        errors = [each for each in told if isinstance(each, Exception)]
        if len(errors) == len(told):
            raise _one_of(errors)

    async def get(self, slot: Slot) -> list[bytes]:
        """The values of all relays that carry the slot's signature; raises as `put` when no relay answered."""
        answers = await _gathered([self._get(relay, slot) for relay in self.relays])
        values = [each for each in answers if isinstance(each, list)]
        if not values:
            raise _one_of([each for each in answers if isinstance(each, Exception)])
        return list(dict.fromkeys(blob for blobs in values for blob in blobs))

    async def _put(self, relay: str, slot: Slot, body: bytes) -> None:
        self._accept(await self._ask("PUT", relay, slot, body), "PUT", relay)

    async def _get(self, relay: str, slot: Slot) -> list[bytes]:
        answer = await self._ask("GET", relay, slot)
        if answer.status == 404:
            return []
        self._accept(answer, "GET", relay)
        return unpack(slot, answer.body)

    async def _ask(self, method: str, relay: str, slot: Slot, content: bytes | None = None) -> Answer:
        url = f"{relay.rstrip('/')}/{z_base_32(slot.public)}"
        body = b""
        try:
            async with asyncio.timeout(SILENCE), self._client.stream(method, url, content=content) as response:
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > HEAD + PACKET:
                        break
                return Answer(response.status_code, response.headers, body)
        except self._broken as error:
            reason = str(error) or f"the connection broke ({type(error).__name__})"
            if "Timeout" in type(error).__name__:
                reason = f"no answer within {SILENCE:g} s"
            raise ConnectionError(f"{method} {relay}: {reason}; is it up? Others go into the option relays") from error

    def _accept(self, answer: Answer, method: str, relay: str) -> None:
        if answer.status in (200, 201, 204):
            return
        said = f"{method} {relay}: HTTP {answer.status}"
        if answer.status == 429 or (answer.status == 503 and "Retry-After" in answer.headers):
            seconds = retry_after(answer.headers.get("Retry-After"), LATER)
            raise RetryLater(seconds, f"{said}: the relay asks to come back in {seconds:g} s")
        advice = ADVICE.get(answer.status, f"{answer.body[:80]!r}; is it a pkarr relay? Check the option relays")
        raise StoreError(f"{said}: {advice}")


ADVICE = {
    400: "the relay does not take the packet; is it a pkarr relay? Check the option relays",
    409: "a newer record is in the slot: another host publishes with this key, or the state of this one was lost or "
    "its clock set back",
    412: "another record was written to the slot meanwhile; try again",
    413: "too large for the relay, which should take 1072 bytes; choose another one with the option relays",
    428: "the relay is still publishing another record of this slot; try again",
}
"""What the user can do about a refusal (pkarr design/relays.md)."""


def _check(relays: list[str]) -> None:
    if not relays:
        raise ConfigError(f"relays is empty; expected URLs of pkarr relays, as {RELAYS[0]!r}")
    for relay in relays:
        parts = urlsplit(relay)
        if parts.username or parts.password:
            raise ConfigError(f"a relay on {parts.hostname!r} has a user in its URL; relays ask for none, leave it out")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"relay {relay!r}: expected a URL like {RELAYS[0]!r}")


async def _gathered(work: list[Coroutine[None, None, list[bytes]]]) -> list[list[bytes] | Exception]:
    """What each came to; once one has values, the others get GRACE seconds more."""
    tasks = [asyncio.ensure_future(each) for each in work]
    waiting, found = set(tasks), False
    try:
        while waiting:
            done, waiting = await asyncio.wait(
                waiting, timeout=GRACE if found else None, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            found = found or any(not task.exception() and task.result() for task in done)
        return [_outcome(task) for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _outcome(task: asyncio.Task[list[bytes]]) -> list[bytes] | Exception:
    error = task.exception()
    return error if isinstance(error, Exception) else task.result()


def _one_of(errors: list[Exception]) -> Exception:
    """The error that says most: that to come back later only when no relay has another reason."""
    rests = [each for each in errors if isinstance(each, RetryLater)]
    if len(rests) == len(errors):
        return min(rests, key=lambda each: each.seconds)
    told = [each for each in errors if not isinstance(each, RetryLater)]
    return next((each for each in told if isinstance(each, StoreError)), told[0])


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """Offer the backend."""
    return [Pkarr]
