"""Records in a key-value server that is spoken to by HTTP: PUT, GET and DELETE of URL/SLOT."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass, field

import wgdisco

TIMEOUT = 5.0  # seconds without a byte from the server
LONGEST = 1024  # bytes read of an answer; a record has at most 681


@dataclass
class Example(wgdisco.BlockingBackend):
    """One value for each slot in a key-value server; whoever runs it can withhold records, and read none."""

    name = "example"
    poll = 10.0  # seconds between two questions, since the server cannot push

    url: str
    """Where the records are, such as https://kv.example.org/records."""
    token: wgdisco.Secret = field(default_factory=wgdisco.Secret)
    """Sent as a bearer token, if there is one."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url = {self.url!r}: expected http://… or https://…")

    def store(self, slot: wgdisco.Slot, blob: bytes, lifetime: int) -> None:
        """Put the value; the server forgets it after its lifetime."""
        self._ask("PUT", slot, blob, Lifetime=str(lifetime))

    def load(self, slot: wgdisco.Slot) -> list[bytes]:
        """The value, if there is one."""
        value = self._ask("GET", slot)
        return [] if value is None else [value]

    def erase(self, slot: wgdisco.Slot) -> None:
        """Delete the value."""
        self._ask("DELETE", slot)

    def _ask(self, method: str, slot: wgdisco.Slot, blob: bytes | None = None, **headers: str) -> bytes | None:
        """The body of the answer, or None when there is nothing at the slot."""
        headers["Content-Type"] = "application/octet-stream"
        request = urllib.request.Request(f"{self.url}/{slot.text}", blob, headers, method=method)
        if self.token:
            request.add_unredirected_header("Authorization", f"Bearer {self.token.reveal()}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                value: bytes = answer.read(LONGEST)
                return value
        except urllib.error.HTTPError as error:
            with error:  # closes the connection
                if error.code == 404 and method != "PUT":
                    return None
                if error.code in (429, 503):
                    wait = error.headers.get("Retry-After", "")
                    raise wgdisco.RetryLater(float(wait) if wait.isdecimal() else 60.0) from error
                raise


@wgdisco.hookimpl
def wgdisco_backends() -> list[type[wgdisco.Backend]]:
    """The backend of this package."""
    return [Example]
