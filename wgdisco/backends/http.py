"""Any web server as a store: one resource per slot, written by PUT, read by GET, removed by DELETE (RFC 9110).

WebDAV folders, nginx's dav module, a NAS, blobs with a signed query: each is one URL with `{slot}` in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple
from urllib.parse import urljoin, urlsplit

from wgdisco.backend import Backend, Secret, Slot, from_text, to_text
from wgdisco.backends._http_options import bare, check, context, credentials, origin, revealed
from wgdisco.backends._retry_after import retry_after
from wgdisco.errors import RetryLater, StoreError
from wgdisco.hookspecs import hookimpl

if TYPE_CHECKING:
    import httpx2

__all__ = ["Http", "wgdisco_backends"]

CONNECT, SILENCE = 2.0, 4.0  # seconds at most: to connect, and without a byte; the core gives a call 5
BIGGEST = 4096  # bytes read of an answer: a record has at most 681, or 913 as text
REMEMBERED = 1024  # slots whose last answer is kept, to ask only for what changed
SETTLED = 2.0  # seconds after which a server that makes its ETag of whole seconds has a new one for a new record
REDIRECTS = 3  # followed by one GET
LATER = 60.0  # seconds to stay away from a server that is asked too often and does not say for how long
GONE, UNCHANGED, FAILED, UNSUPPORTED = (404, 410), 304, 412, 501  # status codes of RFC 9110


class Answer(NamedTuple):
    """What a server said: status, headers, and at most BIGGEST bytes of the body."""

    status: int
    headers: httpx2.Headers
    body: bytes


class Known(NamedTuple):
    """What a slot held when it was last read, and the server's name (ETag) for that version."""

    etag: str
    body: bytes


@dataclass
class Http(Backend):
    """A web server that takes PUT, GET and DELETE: WebDAV, nginx, a NAS; changes are polled."""

    name: ClassVar[str] = "http"

    url: str
    """URL of a record, with `{slot}` where the slot's 32 letters and digits go: `https://nas.example/wg/{slot}`."""
    user: str = ""
    """A user of the server, with `password` (HTTP Basic); empty for none."""
    password: Secret = field(default_factory=Secret)
    token: Secret = field(default_factory=Secret)
    """A token instead of user and password."""
    token_header: str = "Authorization"  # noqa: S105 - a name
    """The header that carries the token, after `Bearer ` when it is Authorization."""
    query: Secret = field(default_factory=Secret)
    """What follows the `?` of the URL when it is secret, as in signed URLs."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of every request."""
    ca: str = ""
    """File of the certificate authority (PEM); empty for the system's."""
    method: Literal["PUT", "POST"] = "PUT"
    """The method that writes."""
    delete: bool = True
    """Whether records of past days are removed by DELETE; false where the server forbids it or removes by itself."""
    text: bool = False
    """Whether records are written as text, for a server that does not keep bytes."""

    async def open(self) -> None:
        """Check the options, raising ConfigError; connections are made when needed."""
        import httpx2

        check(self)
        self._credentials = credentials(self)
        self._query = revealed("query", self.query).lstrip("?")
        self._known: dict[bytes, Known] = {}
        self._written: dict[bytes, str] = {}
        self._broken = (httpx2.HTTPError, OSError)
        self._client = httpx2.AsyncClient(
            verify=context(self.ca) if self.url.startswith("https:") else False,
            trust_env=False,  # neither a proxy, a .netrc nor other certificates by environment
            headers={"Accept-Encoding": "identity", "Cache-Control": "no-cache", "User-Agent": "wgdisco"},
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

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:  # noqa: ARG002 - HTTP has no way to say it
        """Write the record, replacing the one before; raises StoreError or RetryLater.

        The server keeps it until it is replaced or removed.
        """
        content = to_text(blob).encode() if self.text else blob
        kind = {"Content-Type": "text/plain" if self.text else "application/octet-stream"}
        etag = self._written.pop(slot.id, "")
        # so that a server that was frozen does not carry out a late PUT over the newer one that followed it
        answer = await self._ask(self.method, slot, kind | ({"If-Match": etag} if etag else {}), content)
        if etag and answer.status in (FAILED, UNSUPPORTED):
            answer = await self._ask(self.method, slot, kind, content)
        self._accept(answer, self.method, slot)
        if (etag := answer.headers.get("ETag", "")).startswith('"'):
            _remember(self._written, slot.id, etag)

    async def get(self, slot: Slot) -> list[bytes]:
        """The slot's value, or none; the body is not sent again when it has not changed (304). Raises as `put`."""
        known = self._known.get(slot.id)
        answer = await self._ask("GET", slot, {"If-None-Match": known.etag} if known else {})
        if answer.status == UNCHANGED and known:
            return self._values(known.body)
        self._known.pop(slot.id, None)
        if answer.status in GONE:
            return []
        self._accept(answer, "GET", slot)
        if _settled(answer.headers):
            _remember(self._known, slot.id, Known(answer.headers["ETag"], answer.body))
        return self._values(answer.body)

    async def remove(self, slot: Slot) -> None:
        """Delete the record; one that is gone already is no error."""
        self._written.pop(slot.id, None)
        if self.delete:
            answer = await self._ask("DELETE", slot, {})
            if answer.status not in GONE:
                self._accept(answer, "DELETE", slot)

    def _values(self, body: bytes) -> list[bytes]:
        if not self.text:
            return [body] if body else []
        blob = from_text(body.decode(errors="replace").strip())
        return [] if blob is None else [blob]

    async def _ask(self, method: str, slot: Slot, headers: dict[str, str], content: bytes | None = None) -> Answer:
        """The answer to one request; a GET follows redirects, and takes no credentials along to another server."""
        url = first = self._place(slot)
        for _ in range(REDIRECTS + 1):
            private = self._credentials if origin(url) == origin(first) else {}
            answer = await self._once(method, url, private | headers, content)
            target = urljoin(url, answer.headers.get("Location", url))
            if method != "GET" or answer.status not in (301, 302, 303, 307, 308) or target == url:
                return answer
            if urlsplit(target).scheme not in ("https", urlsplit(url).scheme):
                raise StoreError(f"GET {self._shown(slot)} is redirected to {bare(target)}, which is not encrypted")
            url = target
        raise StoreError(f"GET {self._shown(slot)} is redirected more than {REDIRECTS} times; last to {bare(url)}")

    async def _once(self, method: str, url: str, headers: dict[str, str], content: bytes | None) -> Answer:
        try:
            async with self._client.stream(method, url, headers=headers, content=content) as response:
                return Answer(response.status_code, response.headers, await _beginning(response))
        except self._broken as error:
            reason = str(error) or f"the connection broke ({type(error).__name__})"
            if "Timeout" in type(error).__name__:
                reason = f"no answer within {SILENCE:g} s"
            raise ConnectionError(f"{method} {bare(url)}: {reason}") from error

    def _place(self, slot: Slot) -> str:
        url = self.url.replace("{slot}", slot.text)
        return f"{url}{'&' if '?' in url else '?'}{self._query}" if self._query else url

    def _shown(self, slot: Slot) -> str:
        return bare(self.url.replace("{slot}", slot.text))

    def _accept(self, answer: Answer, method: str, slot: Slot) -> None:
        """Return when the server did what it was asked for; raises StoreError or RetryLater with what to do next."""
        if answer.status in (200, 201, 202, 204):
            return
        said = f"{method} {self._shown(slot)}: HTTP {answer.status}"
        delay = answer.headers.get("Retry-After")
        if answer.status == 429 or (answer.status == 503 and delay):
            seconds = retry_after(delay, LATER)
            raise RetryLater(seconds, f"{said}: the server asks to come back in {seconds:g} s")
        if 300 <= answer.status < 400:
            target = bare(urljoin(self._shown(slot), answer.headers.get("Location", "")))
            raise StoreError(f"{said}: it is redirected to {target}; write that into the option url")
        advice = ADVICE.get(answer.status, "")
        raise StoreError(f"{said}{': ' + advice if advice else f' {answer.body[:80]!r}'}")


ADVICE = {
    401: "the server wants credentials, or others; check the options user and password, or token",
    403: "forbidden; does the server allow this method to this user, in this folder?",
    404: "there is no such folder; create it on the server, or correct the option url",
    405: "not allowed here; switch WebDAV on for the folder, or set the option method or delete",
    409: "the folder does not exist; create it on the server",
    413: "too large for the server; let it take bodies of at least 1 kB",
    423: "locked by somebody else; unlock it on the server",
    507: "the server is out of space or the quota is used up; make room there",
}
"""What the user can do about a refusal (RFC 9110 section 15, RFC 4918 section 11)."""


def _remember(table: dict[bytes, Any], key: bytes, value: Any) -> None:
    if len(table) >= REMEMBERED:
        del table[next(iter(table))]
    table[key] = value


def _settled(headers: httpx2.Headers) -> bool:
    """Whether the ETag can be relied on: nginx makes it of size and whole seconds, the same for two quick records."""
    if "ETag" not in headers or "Last-Modified" not in headers:
        return "ETag" in headers
    try:
        now, then = (parsedate_to_datetime(headers.get(name, "")) for name in ("Date", "Last-Modified"))
        return (now - then).total_seconds() >= SETTLED
    except (ValueError, TypeError, OverflowError):
        return False


async def _beginning(response: httpx2.Response) -> bytes:
    body = b""
    async for part in response.aiter_raw():
        body += part
        if len(body) > BIGGEST:
            break
    return body[:BIGGEST]


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """Offer the backend."""
    return [Http]
