"""Multicast DNS for the lan backend: which interfaces it uses, what we say, what was heard (RFC 6762, RFC 6763)."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroconf import RecordUpdate, RecordUpdateListener, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

__all__ = ["TYPE", "Air", "from_strings", "places", "to_strings"]

TYPE = "_wgdisco._udp.local."
TTL = 120  # seconds that others remember what we said, when we die without a good-bye
CHUNK = 250  # bytes of a TXT string that carry the blob; a string has at most 255 (RFC 1035 section 3.3.14)
SIOCGIFFLAGS = 0x8913
UP, LOOPBACK, POINT_TO_POINT, MULTICAST = 0x1, 0x8, 0x10, 0x1000  # interface flags, netdevice(7)
GROUP = ("224.0.0.251", 5353)


def to_strings(blob: bytes) -> bytes:
    """A blob as the strings of a TXT record, `0=…`, `1=…`, with binary values (RFC 6763 section 6)."""
    chunks = [b"%d=" % number + blob[at : at + CHUNK] for number, at in enumerate(range(0, len(blob), CHUNK))]
    return b"".join(bytes([len(chunk)]) + chunk for chunk in chunks)


def from_strings(text: bytes) -> bytes | None:
    """The blob in a TXT record, or None when it is not one of ours."""
    blob, at, number = b"", 0, 0
    while at < len(text):
        chunk = text[at + 1 : at + 1 + text[at]]
        key = b"%d=" % number
        if len(chunk) != text[at] or not chunk.startswith(key):
            return None
        blob, at, number = blob + chunk[len(key) :], at + 1 + len(chunk), number + 1
    return blob or None


def places(wanted: Sequence[str]) -> list[str | int]:
    """The IPv4 addresses, and the numbers of the interfaces with IPv6, where multicast can be sent.

    `wanted` names interfaces; when empty all count that are up and multicast, without loopback and tunnels. Raises
    ConnectionError when there is none.
    """
    import ifaddr

    found: list[str | int] = []
    problem: object = "no interface that is up and can multicast"
    for adapter in ifaddr.get_adapters():
        if not (adapter.name in wanted if wanted else _is_lan(adapter.name)):
            continue
        for each in adapter.ips:
            # IPv6 addresses are tuples; mDNS on ::1 does not work
            if isinstance(each.ip, tuple) and each.ip[0] != "::1" and adapter.index and adapter.index not in found:
                found.append(adapter.index)
            elif isinstance(each.ip, str):
                try:
                    _probe(each.ip)
                    found.append(each.ip)
                except OSError as error:
                    problem = f"{each.ip} on {adapter.name}: {error.strerror or error}"
    if not found:
        where = f"interfaces {', '.join(wanted)}" if wanted else "this machine"
        raise ConnectionError(
            f"cannot multicast to {GROUP[0]} from {where} ({problem}); "
            "connect to a network, name an interface with -o interfaces=NAME, or use another backend"
        )
    return sorted(found, key=str)


def _is_lan(name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh14x", name.encode()[:15], 0))
        except OSError:
            return False
    flags = struct.unpack_from("H", answer, 16)[0]
    return bool(flags & UP and flags & MULTICAST and not flags & (LOOPBACK | POINT_TO_POINT))


def _probe(address: str) -> None:
    """Raise OSError where the kernel would not send from this address to the group; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        probe.connect(GROUP)


class Air:
    """One responder and listener on the interfaces; it moves along when their addresses change."""

    def __init__(self, wanted: Sequence[str]) -> None:
        """`wanted` as for `places`."""
        self.wanted = wanted
        self._places: list[str | int] = []
        self._radio: AsyncZeroconf | None = None
        self._said: dict[str, AsyncServiceInfo] = {}
        self._ends: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Future[Any]] = set()
        self._events: set[asyncio.Event] = set()
        self._tuning = asyncio.Lock()

    async def tune(self) -> AsyncZeroconf:
        """The responder on today's addresses; raises ConnectionError when there are none."""
        async with self._tuning:
            try:
                now = places(self.wanted)
            except ConnectionError:
                await self._switch_off()
                raise
            if self._radio is None or now != self._places:
                await self._switch_off()
                await self._switch_on(now)
            assert self._radio is not None
            return self._radio

    async def say(self, name: str, text: bytes, lifetime: int) -> None:
        """Answer for `name` with this TXT record for `lifetime` seconds, and announce it."""
        from zeroconf.asyncio import AsyncServiceInfo

        radio = await self.tune()
        known, ttl = self._said.get(name), min(TTL, lifetime)
        if known is None or (known.text, known.other_ttl) != (text, ttl):
            info = AsyncServiceInfo(TYPE, name, port=0, properties=text, server=name, host_ttl=TTL, other_ttl=ttl)
            self._said[name] = info
            # no probing: the name is ours alone, and another process of this node may well answer for it too
            if known is None:
                announcing = await radio.async_register_service(info, cooperating_responders=True)
            else:
                announcing = await radio.async_update_service(info)
            self._keep(announcing)
        self._end(name, lifetime)

    async def unsay(self, name: str) -> None:
        """Say good-bye for a name; nothing happens when we do not answer for it."""
        info = self._said.pop(name, None)
        self._end(name, None)
        if info is not None and self._radio is not None:
            self._keep(await self._radio.async_unregister_service(info))

    async def ask(self, names: Iterable[str], *, unicast: bool) -> None:
        """Ask for the TXT records of the names, in as few packets as possible; `unicast`: answer to us alone."""
        from zeroconf import DNSOutgoing, DNSQuestion, const  # type: ignore[attr-defined] # public, but not in __all__

        radio = await self.tune()
        question = DNSOutgoing(const._FLAGS_QR_QUERY)  # noqa: SLF001 - zeroconf has no public name for 0
        for name in names:
            asked = DNSQuestion(name, const._TYPE_TXT, const._CLASS_IN)  # noqa: SLF001 - numbers of the DNS
            asked.unicast = unicast
            question.add_question(asked)
        radio.zeroconf.async_send(question)

    def heard(self, name: str, within: float | None = None) -> list[bytes]:
        """The blobs known for a name, or only those heard in the last `within` seconds."""
        if self._radio is None:
            return []
        from zeroconf import DNSText, const, current_time_millis  # type: ignore[attr-defined] # public, but not in __all__

        now = current_time_millis()
        found = self._radio.zeroconf.cache.async_all_by_details(name, const._TYPE_TXT, const._CLASS_IN)  # noqa: SLF001
        texts = [
            each.text
            for each in found
            if isinstance(each, DNSText)
            and not each.is_expired(now)
            and (within is None or now - each.created <= 1000 * within)
        ]
        return [blob for blob in map(from_strings, texts) if blob is not None]

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever something was heard."""
        event = asyncio.Event()
        self._events.add(event)
        try:
            yield event
        finally:
            self._events.discard(event)

    async def close(self) -> None:
        """Say good-bye for everything and be silent."""
        for name in list(self._ends):
            self._end(name, None)
        self._said.clear()
        async with self._tuning:
            await self._switch_off()

    async def _switch_on(self, now: list[str | int]) -> None:
        from zeroconf.asyncio import AsyncZeroconf

        self._places = now
        self._radio = AsyncZeroconf(interfaces=now)
        await self._radio.zeroconf.async_wait_for_start()
        self._radio.zeroconf.async_add_listener(_listener(self._events), None)
        for info in self._said.values():
            self._keep(await self._radio.async_register_service(info, cooperating_responders=True))

    async def _switch_off(self) -> None:
        radio, self._radio = self._radio, None
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if radio is not None:
            await radio.async_close()

    def _end(self, name: str, lifetime: int | None) -> None:
        if name in self._ends:
            self._ends.pop(name).cancel()
        if lifetime is not None:
            loop = asyncio.get_running_loop()
            self._ends[name] = loop.call_later(lifetime, lambda: self._keep(self.unsay(name)))

    def _keep(self, work: Coroutine[Any, Any, None] | Any) -> None:
        """Hold on to what goes on in the background; close ends it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        with suppress(asyncio.CancelledError):
            task.exception()


def _listener(events: set[asyncio.Event]) -> RecordUpdateListener:
    from zeroconf import RecordUpdateListener

    class Listener(RecordUpdateListener):
        def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
            pass  # the cache has them a moment later

        def async_update_records_complete(self) -> None:
            for event in events:
                event.set()

    return Listener()
