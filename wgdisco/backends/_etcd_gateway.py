"""A client of etcd's v3 JSON gateway: calls and watches with fail-over, tokens and bounded answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from wgdisco.backend import Secret
from wgdisco.backends._etcd_messages import Refused, Token, TooMuch, Unavailable, Watched, decode, decode_line, refusal

if TYPE_CHECKING:
    import ssl

    import httpx2

__all__ = ["Gateway"]

CONNECT, REQUEST, WHOLE = 1.0, 2.0, 5.0  # seconds at most: to connect, without a byte, for a whole answer
BUDGET = 4.5  # seconds that all endpoints share: the core gives a call 5
BARRED = 60.0  # seconds without another attempt after a refused password
BIGGEST = 4 << 20  # bytes of an answer, or of a line of a watch; etcd's own limit for a value is 1.5 MiB
NO_AUTHENTICATION = 9  # gRPC status of etcd when it is asked for a token and has authentication switched off

T = TypeVar("T")


class Gateway:
    """A client of one cluster: asks the endpoint that answered last, and the next one when it does not."""

    def __init__(self, endpoints: list[str], tls: ssl.SSLContext | None, user: str, password: Secret) -> None:
        """Connect to nothing yet; `endpoints` are URLs without a final slash, tried in this order."""
        import ssl

        import httpx2

        self._wait = min(REQUEST, BUDGET / len(endpoints))
        self._client = httpx2.AsyncClient(
            verify=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # for http none is used; this one trusts nobody
            trust_env=False,  # neither a proxy nor other certificates by environment
            headers={"Accept-Encoding": "identity", "Content-Type": "application/json"},
            timeout=httpx2.Timeout(self._wait, connect=min(CONNECT, self._wait)),
        )
        self._broken = (httpx2.TransportError, OSError)  # a refused client certificate is a bare ssl.SSLError
        self.endpoints, self._current = endpoints, 0
        self._user, self._password = user, password
        self._token: str | None = None
        self._renewal = asyncio.Lock()
        self._barred: tuple[float, Refused] | None = None
        self._silent: dict[str, tuple[float, Unavailable]] = {}  # endpoints that gave no token, and when

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def call(self, path: str, body: dict[str, Any], kind: type[T], *, leader: bool = False) -> T:
        """Ask the endpoints in turn until one answers; raises Unavailable with every reason, Refused or TooMuch.

        With `leader` a member that is cut off from the others says so at once, instead of letting the call wait.
        """
        reasons, leaderless = [], ""
        for endpoint in self.endpoints[self._current :] + self.endpoints[: self._current]:
            try:
                return decode(await self._ask(endpoint, path, body, leader=leader), kind)
            except Unavailable as error:
                reasons.append(f"{endpoint}: {error}")
                self.rotate(endpoint)
                leaderless = leaderless or (endpoint if error.leaderless else "")
        if leaderless:  # who answers at all is asked first for what needs no leader
            self._current = self.endpoints.index(leaderless)
        raise Unavailable("no endpoint can serve: " + "; ".join(reasons), leaderless=bool(leaderless))

    async def watch(self, body: dict[str, Any], silence: float) -> AsyncGenerator[Watched, None]:
        """The messages of one watch at the current endpoint; ends after `silence` seconds without any.

        Raises Unavailable when the endpoint breaks, after having turned to the next one; Refused or TooMuch.
        """
        endpoint = self.endpoints[self._current]
        try:
            async with AsyncExitStack() as kept:
                async with asyncio.timeout(self._wait):
                    lines = await self._attach(endpoint, body, kept)
                    first = await anext(lines)
                yield decode_line(first)
                while (line := await _next(lines, silence)) is not None:
                    yield decode_line(line)
        except self._broken as error:
            self.rotate(endpoint)
            raise Unavailable(f"{endpoint}: {self._reason(error, endpoint)}") from error

    def rotate(self, failed: str) -> None:
        """Turn to the next endpoint, unless another call that failed has done so."""
        if self.endpoints[self._current] == failed:
            self._current = (self._current + 1) % len(self.endpoints)

    async def _attach(self, endpoint: str, body: dict[str, Any], kept: AsyncExitStack) -> AsyncGenerator[bytes, None]:
        headers = _headers(await self._authenticate(endpoint), leader=True)
        url, content = f"{endpoint}/v3/watch", msgspec.json.encode(body)
        request = self._client.stream("POST", url, content=content, headers=headers, timeout=None)
        response = await kept.enter_async_context(request)
        if response.status_code != 200:
            raise refusal(response.status_code, await _whole(response), f"{endpoint} refused watch")
        return await kept.enter_async_context(aclosing(_lines(response)))

    async def _ask(self, endpoint: str, path: str, body: dict[str, Any], *, leader: bool) -> bytes:
        """One call at one endpoint, with a new token if the one at hand is not accepted any more."""
        token = await self._authenticate(endpoint)
        try:
            return await self._post(endpoint, path, body, _headers(token, leader=leader))
        except Refused as refused:
            if not self._user or not refused.token_lost:
                raise
        token = await self._authenticate(endpoint, stale=token)
        try:
            return await self._post(endpoint, path, body, _headers(token, leader=leader))
        except Refused as refused:
            if refused.token_lost:
                self._barred = (time.monotonic() + BARRED, refused)
            raise

    async def _authenticate(self, endpoint: str, stale: str | None = None) -> str:
        """The token at hand, or a new one when there is none or it is `stale`: one request, however many wait.

        A password costs etcd a bcrypt each time: after a refusal nobody asks again for a minute.
        """
        if not self._user:
            return ""
        begin = time.monotonic()
        async with self._renewal:
            if endpoint in self._silent and self._silent[endpoint][0] > begin:
                raise Unavailable(str(self._silent[endpoint][1]))  # or everybody would wait for it in turn
            if self._barred is not None and time.monotonic() < self._barred[0]:
                raise self._barred[1].with_traceback(None)
            if self._token is None or self._token == stale:
                self._token = None
                self._token = await self._fresh_token(endpoint)
            return self._token

    async def _fresh_token(self, endpoint: str) -> str:
        credentials = {"name": self._user, "password": self._password.reveal()}
        try:
            return decode(await self._post(endpoint, "auth/authenticate", credentials, {}), Token).token
        except Unavailable as error:
            self._silent[endpoint] = (time.monotonic(), error)
            raise
        except Refused as refused:
            if refused.code == NO_AUTHENTICATION:
                return ""
            self._barred = (time.monotonic() + BARRED, refused)
            raise

    async def _post(self, endpoint: str, path: str, body: dict[str, Any], headers: dict[str, str]) -> bytes:
        url, content = f"{endpoint}/v3/{path}", msgspec.json.encode(body)
        try:
            async with (
                asyncio.timeout(WHOLE),
                self._client.stream("POST", url, content=content, headers=headers) as got,
            ):
                answer = await _whole(got)
        except self._broken as error:
            raise Unavailable(self._reason(error, endpoint)) from error
        if got.status_code != 200:
            raise refusal(got.status_code, answer, f"{endpoint} refused {path}")
        return answer

    def _reason(self, error: Exception, endpoint: str) -> str:
        if "Timeout" in type(error).__name__:
            return f"no answer within {self._wait:g} s"
        if str(error):
            return str(error)
        hint = "; does it want a client certificate (option cert)?" if endpoint.startswith("https:") else ""
        return f"the connection broke ({type(error).__name__}){hint}"


def _headers(token: str, *, leader: bool) -> dict[str, str]:
    headers = {"Grpc-Metadata-hasleader": "true"} if leader else {}
    return headers | {"Authorization": token} if token else headers  # etcd refuses the usual "Bearer "


async def _whole(response: httpx2.Response) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_raw():
        parts.append(part)
        size += len(part)
        if size > BIGGEST:
            raise TooMuch(f"an answer of more than {BIGGEST} bytes")
    return b"".join(parts)


async def _lines(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    rest = b""
    async for part in response.aiter_raw():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > BIGGEST:
            raise TooMuch(f"a line of more than {BIGGEST} bytes in a watch")
    raise Unavailable("the watch ended")


async def _next(lines: AsyncGenerator[bytes, None], silence: float) -> bytes | None:
    """The next line, or None after `silence` seconds."""
    try:
        async with asyncio.timeout(silence):
            return await anext(lines)
    except TimeoutError:
        return None
