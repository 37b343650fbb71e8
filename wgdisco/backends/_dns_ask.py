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

__all__ = ["PAYLOAD", "PORTS", "Asker", "Where", "addresses", "names", "split", "system", "texts"]

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


def split(option: str, text: str, port: int) -> tuple[str, int]:
    """Host and port of HOST, HOST:PORT, ADDRESS:PORT, V6 or [V6]:PORT; raises ConfigError quoting option and text."""
    host, number = text, str(port)
    if text.startswith("[") and "]" in text:
        host, _, rest = text[1:].partition("]")
        number = rest.removeprefix(":") or number
    elif text.count(":") == 1:
        host, _, number = text.partition(":")
    if not host or not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        raise ConfigError(f"{option} {text!r}: expected HOST:PORT, as 'ns1.example.org:53' or '[2001:db8::1]:53'")
    return host, int(number)


def system() -> list[Where]:
    """The servers in resolv.conf as it is now; raises OSError when there are none."""
    import dns.resolver

    try:
        found = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration as error:
        raise OSError("/etc/resolv.conf names no DNS server; set the option resolver") from error
    return [Where(str(each), PORTS["udp"]) for each in found if isinstance(each, str)]


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
        import dns.asyncquery

        if self._client is not None:
            return await self._https(query, where)
        if self._context is not None:
            return await dns.asyncquery.tls(
                query, where.address, port=where.port, ssl_context=self._context, server_hostname=where.name
            )
        return await dns.asyncquery.tcp(query, where.address, port=where.port)

    async def _https(self, query: dns.message.Message, where: Where) -> dns.message.Message:
        import dns.asyncquery
        import httpx2

        try:
            return await dns.asyncquery.https(query, where.address, client=self._client)
        except (httpx2.HTTPError, ValueError) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error


async def addresses(asker: Asker, host: str, servers: Sequence[Where] | None = None) -> list[str]:
    """The addresses of a host, IPv4 first, asked of `servers` or the system's; a numeric one is its own.

    Raises OSError when it has none.

    Not by getaddrinfo(3): its threads keep the process alive for as long as DNS is silent.
    """
    import dns.inet

    if dns.inet.is_address(host):
        return [host]
    if host == "localhost":
        return ["127.0.0.1", "::1"]
    servers = system() if servers is None else servers
    found = [text for kind in ("A", "AAAA") for text in await names(asker, host, kind, servers)]
    if not found:
        raise OSError(f"the name {host!r} has no address in DNS")
    return found


async def names(asker: Asker, name: str, kind: str, servers: Sequence[Where]) -> list[str]:
    """The texts of all records of a kind: addresses, or the names of servers (of SOA: the primary one)."""
    import dns.message

    answer = await asker.ask(dns.message.make_query(name, kind, use_edns=0, payload=PAYLOAD), servers)
    return [each.to_text().split()[0] for each in _answers(answer) or ()]


def texts(answer: dns.message.Message) -> dns.rdataset.Rdataset | None:
    """The TXT records in an answer, through aliases (CNAME); None when there are none."""
    import dns.rdataset

    rrset = _answers(answer)
    return None if rrset is None else dns.rdataset.from_rdata_list(rrset.ttl, list(rrset))


def _answers(answer: dns.message.Message) -> dns.rrset.RRset | None:
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
    made = await backend.make_socket(family, socket.SOCK_DGRAM, 0, None, (where.address, where.port))
    async with made as connected:
        return await dns.asyncquery.udp(
            query, where.address, port=where.port, sock=connected, raise_on_truncation=True, ignore_errors=True
        )


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
