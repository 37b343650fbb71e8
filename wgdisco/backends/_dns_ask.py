"""Asking DNS servers, one after the other: over UDP, and TCP for what is truncated, over TCP, TLS or HTTPS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wgdisco.errors import ConfigError, MissingExtra, StoreError

if TYPE_CHECKING:
    import dns.message
    import dns.rdataset
    import dns.rrset

__all__ = ["PAYLOAD", "PORTS", "Asker", "Where", "answers", "texts"]

PORTS = {"udp": 53, "tcp": 53, "tls": 853, "https": 443}
PAYLOAD = 1232  # bytes of a datagram that no path fragments (RFC 9715); a record and its name take less
BUDGET = 4.0  # seconds that all attempts share: the core gives a call 5
WAIT = 1.5  # seconds for one attempt
ROUNDS = 2  # times each server is asked, since a datagram may get lost
SERVERS = 4  # asked at most, of a zone that has more


@dataclass(frozen=True, slots=True)
class Where:
    """A server: numeric address and port, the name its certificate carries, or a URL alone for HTTPS."""

    address: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        if self.address.startswith("https:"):
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Asker:
    """Asks by one transport; over HTTPS all questions share one connection."""

    def __init__(self, transport: str, ca: str = "") -> None:
        """Read certificates; `ca` is a PEM file ('' for the system's). Raises ConfigError or MissingExtra."""
        self.transport = transport
        self._context = _context(ca) if transport in ("tls", "https") else None
        self._client: Any = _client(self._context) if transport == "https" else None
        self._good: Where | None = None

    async def close(self) -> None:
        """Close what is shared."""
        if self._client is not None:
            await self._client.aclose()

    async def ask(self, query: dns.message.Message, servers: Sequence[Where]) -> dns.message.Message:
        """The first usable answer, the server that answered last asked first; raises ConnectionError.

        A server that fails at once (refused, broken, not willing) is not asked again; one that is silent is, since
        datagrams get lost.
        """
        left = sorted(servers[:SERVERS], key=lambda each: each != self._good)
        wait, reasons = min(WAIT, BUDGET / max(1, len(left) * ROUNDS)), []
        for _ in range(ROUNDS):
            for where in list(left):
                try:
                    answer = await self._exchange(query, where, wait)
                    _check(answer)
                except TimeoutError:
                    reasons.append(f"{where}: no answer within {wait:g} s")
                except (OSError, EOFError, StoreError) as error:
                    reasons.append(f"{where}: {error or type(error).__name__}")
                    left.remove(where)
                else:
                    self._good = where
                    return answer
        raise ConnectionError(
            "no DNS server gives an answer: " + ("; ".join(dict.fromkeys(reasons)) or "there is none to ask")
        )

    async def send(self, update: dns.message.Message, servers: Sequence[Where]) -> dns.message.Message:
        """The answer to an update, whatever it says, from the first server that can be reached.

        Raises ConnectionError, or dnspython's errors for an answer that is not properly signed.
        """
        reasons = []
        for where in servers[:SERVERS]:
            try:
                async with asyncio.timeout(WAIT):
                    return await self._stream(update, where)
            except TimeoutError:
                reasons.append(f"{where}: no answer within {WAIT:g} s")
            except (OSError, EOFError) as error:
                reasons.append(f"{where}: {error or type(error).__name__}")
        raise ConnectionError("the DNS server for updates does not answer: " + "; ".join(reasons))

    async def _exchange(self, query: dns.message.Message, where: Where, seconds: float) -> dns.message.Message:
        """One attempt; raises TimeoutError, OSError, EOFError or StoreError."""
        import dns.exception
        import dns.message

        try:
            async with asyncio.timeout(seconds):
                if self.transport == "udp":
                    try:
                        return await _udp(query, where)
                    except dns.message.Truncated:
                        pass
                return await self._stream(query, where)
        except dns.exception.DNSException as error:
            raise StoreError(f"no proper answer: {error or type(error).__name__}") from error

    async def _stream(self, query: dns.message.Message, where: Where) -> dns.message.Message:
        if self._client is not None:
            return await self._https(query, where)
        tls: dict[str, Any] = {"ssl": self._context, "server_hostname": where.name} if self._context else {}
        reader, writer = await asyncio.open_connection(where.address, where.port, **tls)
        try:
            wire = query.to_wire()
            writer.write(len(wire).to_bytes(2) + wire)  # RFC 1035 section 4.2.2
            return _parsed(query, await reader.readexactly(int.from_bytes(await reader.readexactly(2))))
        finally:
            writer.transport.abort()  # everything was read, and a frozen server would not say goodbye

    async def _https(self, query: dns.message.Message, where: Where) -> dns.message.Message:
        import dns.asyncquery
        import httpx2

        try:
            return await dns.asyncquery.https(query, where.address, client=self._client)
        except (httpx2.HTTPError, ValueError) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error


def texts(answer: dns.message.Message) -> dns.rdataset.Rdataset | None:
    """The TXT records in an answer, through aliases (CNAME); None when there are none."""
    import dns.rdataset

    rrset = answers(answer)
    return None if rrset is None else dns.rdataset.from_rdata_list(rrset.ttl, list(rrset))


def answers(answer: dns.message.Message) -> dns.rrset.RRset | None:
    """The records asked for, through aliases (CNAME); None when there are none. Raises StoreError."""
    import dns.exception
    import dns.message

    assert isinstance(answer, dns.message.QueryMessage)
    try:
        return answer.resolve_chaining().answer
    except dns.exception.DNSException as error:
        raise StoreError(f"a DNS answer makes no sense: {error or type(error).__name__}") from error


async def _udp(query: dns.message.Message, where: Where) -> dns.message.Message:
    """One datagram and its answer; the socket is connected, so that a closed port is an error at once."""
    import dns.asyncbackend
    import dns.asyncquery
    import dns.inet

    family = dns.inet.af_for_address(where.address)
    backend = dns.asyncbackend.get_backend("asyncio")
    to = (where.address, where.port)
    made = await backend.make_socket(family, socket.SOCK_DGRAM, 0, None, to)  # type: ignore[no-untyped-call]  # dnspython's
    async with made as connected:
        return await dns.asyncquery.udp(
            query, where.address, port=where.port, sock=connected, raise_on_truncation=True, ignore_errors=True
        )


def _parsed(query: dns.message.Message, wire: bytes) -> dns.message.Message:
    import dns.message
    import dns.query

    answer = dns.message.from_wire(wire, keyring=query.keyring, request_mac=query.mac or b"")
    if not query.is_response(answer):
        raise dns.query.BadResponse
    return answer


def _check(answer: dns.message.Message) -> None:
    """Raise StoreError unless the server answered the question, if only with "there is no such name"."""
    import dns.rcode

    code = answer.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        hint = "; does it serve this zone, and us?" if code == dns.rcode.REFUSED else ""
        raise StoreError(f"it answers {dns.rcode.to_text(code)}{hint}")


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise ConfigError(f"ca {ca!r}: {error.strerror or error}; expected a file with certificates in PEM") from error


def _client(context: ssl.SSLContext | None) -> Any:
    """A client that speaks HTTP/2, the only version that BIND serves."""
    try:
        import h2  # noqa: F401 - httpx2 imports it late, and then fails with a question in flight
        import httpx2
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"transport 'https' needs {error.name!r}; install it with: pip install 'wgdisco[doh]'"
        ) from error
    return httpx2.AsyncClient(http2=True, http1=False, verify=context or True, trust_env=False)
