"""Requests to a pastebin: bounded answers, no redirects, nothing from the environment, refusals as errors."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from wgdisco.backend import Secret
from wgdisco.backends._retry_after import retry_after
from wgdisco.errors import ConfigError, RetryLater, StoreError

if TYPE_CHECKING:
    import requests

__all__ = ["PASTE", "Answer", "Web", "check_url", "revealed"]

TIMEOUT = (3, 10)  # seconds: to connect, and without a byte
PASTE, LISTING = 4096, 4 << 20  # bytes at most of one paste, and of a list of them
LATER = 60.0  # seconds to stay away from a service that does not say for how long


class Answer(NamedTuple):
    """What a server said; the names of the headers are in any case."""

    status: int
    headers: Any
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8, what is none replaced."""
        return self.body.decode(errors="replace")


class Web:
    """A session with one server."""

    def __init__(self, base: str, ca: str) -> None:
        """Connect to nothing yet; `base` is the URL that every path is added to, `ca` a PEM file or ''."""
        import requests

        self._base = base.rstrip("/")
        self._session = requests.Session()
        # else a .netrc would replace our token, and REQUESTS_CA_BUNDLE the option ca
        self._session.trust_env = False
        self._session.verify = ca or True
        self._session.headers.update({"User-Agent": "wgdisco", "Accept-Encoding": "identity"})

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def ask(self, method: str, path: str, *, fine: tuple[int, ...] = (), most: int = LISTING, **more: Any) -> Answer:
        """One request, asked once; `most` bytes of the answer are read, `more` is as in requests.

        Status codes from 200 to 299 and those in `fine` are returned. Raises RetryLater when the service asks for
        time, StoreError for any other status, ConnectionError when there is no answer.
        """
        import requests

        said = f"{method} {self._base}{path}"
        try:
            with self._session.request(
                method, self._base + path, timeout=TIMEOUT, allow_redirects=False, stream=True, **more
            ) as got:
                answer = Answer(got.status_code, got.headers, _read(got, most, said))
        except requests.RequestException as error:
            # not its text: requests quotes URLs whole, and with them what is secret in a query
            raise ConnectionError(f"{said}: {_reason(error)}") from error
        if 200 <= answer.status < 300 or answer.status in fine:
            return answer
        raise _refusal(answer, said)


def check_url(url: str, ca: str) -> None:
    """Raise ConfigError for a URL or a file of certificates that cannot be used."""
    parts = urlsplit(url)
    if parts.username is not None:
        raise ConfigError("url has a user in it; use the option token")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"url {url!r}: expected the URL of the server, like 'https://paste.example'")
    if ca and not Path(ca).is_file():
        raise ConfigError(f"ca {ca!r} is no file; expected one with certificates in PEM")


def revealed(option: str, secret: Secret) -> str:
    """The secret, '' when it is not set; raises ConfigError, without showing it, for what no header can carry."""
    text = secret.reveal()
    if not text.isascii() or not text.isprintable():
        raise ConfigError(f"{option} has characters that no HTTP header can carry; expected printable ASCII")
    return text


def _read(got: requests.Response, most: int, said: str) -> bytes:
    """The body; one that is longer than `most` is an error, or of a single paste simply cut."""
    body = bytearray()
    for part in got.iter_content(min(most, 65536)):
        body += part
        if len(body) > most:
            if most == PASTE:
                return bytes(body[:most])
            raise StoreError(f"{said}: an answer of more than {most} bytes; is this the right server?")
    return bytes(body)


def _reason(error: BaseException) -> str:
    """What is at the bottom of an exception of requests, without the layers around it."""
    import requests

    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT[0] if isinstance(error, requests.ConnectTimeout) else TIMEOUT[1]} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "the certificate is not accepted; is the option ca right?"
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def _refusal(answer: Answer, said: str) -> StoreError:
    """The error for a status code, with what to do next."""
    said = f"{said}: HTTP {answer.status}"
    seconds = _pause(answer)
    if seconds is not None:
        return RetryLater(seconds, f"{said}: the service asks to come back in {seconds:g} s")
    if 300 <= answer.status < 400:
        where = urlsplit(answer.headers.get("Location", ""))
        return StoreError(
            f"{said}: redirected to {where.scheme}://{where.hostname}{where.path}; correct the option url"
        )
    advice = {
        401: "the token is not accepted; check the option token",
        403: "forbidden; the token lacks a right that this needs",
        404: "there is nothing at this address, or not for this token; check the options url, gist and token",
        413: "too large for the server; let it take pastes of at least 1 kB",
    }.get(answer.status)
    return StoreError(f"{said}: {advice or repr(answer.body[:80])}")


def _pause(answer: Answer) -> float | None:
    """Seconds the service asks for, None when it does not: 429, 503 with a time, and how GitHub says it (403)."""
    after = answer.headers.get("Retry-After")
    if answer.status == 429 or (answer.status in (403, 503) and after):
        return retry_after(after, LATER)
    reset = answer.headers.get("X-RateLimit-Reset", "")
    if answer.status == 403 and answer.headers.get("X-RateLimit-Remaining") == "0" and reset.isdecimal():
        return min(max(int(reset[:12]) - time.time(), LATER), 86400.0)
    return None
