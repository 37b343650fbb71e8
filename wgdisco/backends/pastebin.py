"""Pastebins as a store: pastebin.com, a gist of GitHub's, or a bepasty server; one paste per slot, found by its title.

This backend is also the example of a `BlockingBackend`: `start` connects, `store`, `load` and `erase` do the work in a
thread of their own with an ordinary blocking library (requests). They need not care for deadlines, threads or retries.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from wgdisco.backend import Backend, Secret, Slot, from_text, to_text
from wgdisco.backends._pastebin_com import PastebinCom
from wgdisco.backends._pastebin_services import Bepasty, Gist, Service
from wgdisco.backends._pastebin_web import Web, check_url, revealed
from wgdisco.blocking import BlockingBackend
from wgdisco.errors import ConfigError, StoreError
from wgdisco.hookspecs import hookimpl

__all__ = ["Pastebin", "wgdisco_backends"]

URLS = {"pastebin.com": "https://pastebin.com", "gist": "https://api.github.com", "bepasty": ""}


@dataclass
class Pastebin(BlockingBackend):
    """Pastes with telling titles on pastebin.com, in a gist on GitHub, or on a bepasty server of one's own."""

    # what the store is like, for the core; every field below is an option, the string under it is its help
    name: ClassVar[str] = "pastebin"
    poll: ClassVar[float] = 120.0  # GitHub answers 60 questions an hour to those who have no token
    slow_writes: ClassVar[bool] = True  # pastebin.com takes few pastes a day, so records live longer

    service: Literal["pastebin.com", "gist", "bepasty"]
    """Where the pastes lie."""
    url: str = ""
    """URL of the server; needed for bepasty, and for a GitHub of one's own."""
    gist: str = ""
    """For `gist`: the hexadecimal id of the gist, the last part of its URL."""
    token: Secret = field(default_factory=Secret)
    """pastebin.com: the user key; gist: a token of GitHub's, not needed to read; bepasty: a token with rights."""
    key: Secret = field(default_factory=Secret)
    """For `pastebin.com`: the developer key."""
    public: bool = False
    """For `pastebin.com`: whether pastes are public; of unlisted ones a free account may have 25."""
    prefix: str = "wgdisco-v1-"
    """What every title begins with."""
    ca: str = ""
    """File of the certificate authority (PEM); empty for the well-known ones."""

    def start(self) -> None:
        """Check the options, raising ConfigError, and make a session; nothing is asked yet."""
        base = self.url or URLS[self.service]
        check_url(base, self.ca)
        self._web = Web(base, self.ca)
        self._service = self._chosen()

    def stop(self) -> None:
        """Close the session."""
        self._web.close()

    def store(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Create a paste, and only then delete the older ones: pastes cannot be changed, and readers always find one.

        The same text is not pasted again while it lives long enough anyway. Raises StoreError or RetryLater.
        """
        title, text = self.prefix + slot.text, to_text(blob)
        old = self._service.find({title}).get(title, [])
        new = next(
            (paste.id for paste in old if paste.expires >= time.time() + lifetime and self._has(paste.id, text)), ""
        )
        new = new or self._service.create(title, text, lifetime)
        # the record is stored by now: an error here would only have it pasted again. The next `store` tries again
        with suppress(StoreError, OSError):
            for paste in old:
                if paste.id != new:  # a gist's file keeps its name
                    self._service.delete(paste.id)

    def load(self, slot: Slot) -> list[bytes]:
        """The values of a slot; raises StoreError or RetryLater."""
        return self.load_all([slot])[slot]

    def erase(self, slot: Slot) -> None:
        """Delete the pastes of a slot; none is no error."""
        title = self.prefix + slot.text
        for paste in self._service.find({title}).get(title, []):
            self._service.delete(paste.id)

    async def fetch(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """All slots with one listing, instead of the default's one call for each."""
        found = await self.aside(lambda backend: backend.load_all(slots))
        for slot in slots:
            yield slot, found[slot]

    def load_all(self, slots: Sequence[Slot]) -> dict[Slot, list[bytes]]:
        """The values of many slots; texts that are not ours are skipped."""
        found = self._service.find({self.prefix + slot.text for slot in slots})
        values: dict[Slot, list[bytes]] = {}
        for slot in slots:
            texts = [self._service.read(paste.id) for paste in found.get(self.prefix + slot.text, [])]
            if texts and None in texts:  # replaced since it was listed: list again, once
                again = self._service.find({self.prefix + slot.text}).get(self.prefix + slot.text, [])
                texts = [self._service.read(paste.id) for paste in again]
            blobs = [from_text(text.strip()) for text in texts if text is not None]
            values[slot] = [blob for blob in blobs if blob is not None]
        return values

    def _has(self, paste: str, text: str) -> bool:
        return self._service.read(paste) == text

    def _chosen(self) -> Service:
        token, key = revealed("token", self.token), revealed("key", self.key)
        if self.service == "bepasty":
            return Bepasty(self._web, token)
        if self.service == "gist":
            if not self.gist.isalnum():
                raise ConfigError(f"gist {self.gist!r} is no id of a gist; expected the last part of its URL")
            return Gist(self._web, self.gist, token)
        if not token or not key:
            raise ConfigError("pastebin.com lists pastes only for who has both keys; set the options key and token")
        return PastebinCom(self._web, key, token, public=self.public)


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """Offer the backend."""
    return [Pastebin]
