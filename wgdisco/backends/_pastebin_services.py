"""Pastebins behind one shape, find, read, create and delete pastes by title: gists, and bepasty servers."""

from __future__ import annotations

import base64
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from wgdisco.backends._pastebin_web import PASTE, Answer, Web
from wgdisco.errors import StoreError

__all__ = ["Bepasty", "Gist", "Paste", "Service", "number"]

SAME_TITLE = 16  # pastes of one title that are looked at, the newest ones
REMEMBERED = 1024  # texts of pastes that are not downloaded again


class Paste(NamedTuple):
    """A paste: its id, and the unix times in seconds when it was made and when it goes (infinite: never)."""

    id: str
    made: float
    expires: float


class Service(ABC):
    """One pastebin. Every method raises StoreError, RetryLater or ConnectionError."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self._texts: dict[str, str] = {}

    def find(self, titles: Collection[str]) -> dict[str, list[Paste]]:
        """The newest pastes with each of these titles; titles without any are left out."""
        found: dict[str, list[Paste]] = {}
        for title, paste in self.listing():
            if title in titles:
                found.setdefault(title, []).append(paste)
        return {title: sorted(pastes, key=lambda paste: -paste.made)[:SAME_TITLE] for title, pastes in found.items()}

    def read(self, paste: str) -> str | None:
        """The text of a paste, None when it is gone. A paste never changes, so each is downloaded once."""
        if paste not in self._texts:
            answer = self.download(paste)
            if answer.status in (404, 410):
                return None
            while len(self._texts) >= REMEMBERED:
                del self._texts[next(iter(self._texts))]
            self._texts[paste] = answer.text
        return self._texts[paste]

    @abstractmethod
    def listing(self) -> Iterator[tuple[str, Paste]]:
        """Every paste there is, with its title."""

    @abstractmethod
    def download(self, paste: str) -> Answer:
        """The paste as it is, status 404 or 410 when it is gone."""

    @abstractmethod
    def create(self, title: str, text: str, lifetime: int) -> str:
        """Paste a text that is to stay for at least `lifetime` seconds; returns the paste's id."""

    @abstractmethod
    def delete(self, paste: str) -> None:
        """Delete a paste; one that is gone already is no error."""


class Gist(Service):
    """One gist on GitHub with a file for each slot (docs.github.com/rest/gists); it may have 300 files."""

    def __init__(self, web: Web, gist: str, token: str) -> None:
        """Take the gist's id, and a token ('' to read only)."""
        super().__init__(web)
        self._path = f"/gists/{gist}"
        self._headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        self._headers |= {"Authorization": f"Bearer {token}"} if token else {}
        self._etag = ""

    def listing(self) -> Iterator[tuple[str, Paste]]:
        """Every file; when nothing has changed the answer is 304 without a body, and free for who has a token."""
        known = {"If-None-Match": self._etag} if self._etag else {}
        answer = self.web.ask("GET", self._path, headers=self._headers | known, fine=(304,))
        if answer.status != 304:
            self._take(answer)
        for title in self._texts:
            yield title, Paste(title, 0.0, math.inf)

    def read(self, paste: str) -> str | None:
        """The text of a file as it was listed."""
        return self._texts.get(paste)

    def download(self, paste: str) -> Answer:
        """Not needed: the listing has the texts."""
        raise NotImplementedError(paste)

    def create(self, title: str, text: str, lifetime: int) -> str:  # noqa: ARG002 - files do not expire
        """Write the file, new or not."""
        self._change(title, {"content": text})
        return title

    def delete(self, paste: str) -> None:
        """Take the file out of the gist."""
        self._change(paste, None)

    def _change(self, title: str, file: dict[str, str] | None) -> None:
        self._etag = ""
        self.web.ask("PATCH", self._path, headers=self._headers, json={"files": {title: file}})

    def _take(self, answer: Answer) -> None:
        files = _decoded(answer).get("files")
        if not isinstance(files, dict):
            raise StoreError(f"GET {self._path}: {answer.body[:80]!r} is no gist; check the option url")
        self._texts = {
            title: file["content"][:PASTE]
            for title, file in files.items()
            if isinstance(file, dict) and isinstance(file.get("content"), str)
        }
        self._etag = answer.headers.get("ETag", "")


class Bepasty(Service):
    """A bepasty server's REST interface (bepasty-server.readthedocs.io): names, expiry in minutes, rights by token."""

    def __init__(self, web: Web, token: str) -> None:
        """Take a token: with the rights list and read to look up, create and delete besides to publish."""
        super().__init__(web)
        self._auth = ("", token) if token else None

    def listing(self) -> Iterator[tuple[str, Paste]]:
        """Every item whose upload is complete."""
        for id_, item in _decoded(self._ask("GET", "")).items():
            about = item.get("file-meta") if isinstance(item, dict) else None
            if isinstance(about, dict) and about.get("complete"):
                goes = number(about.get("timestamp-max-life"))
                paste = Paste(id_, number(about.get("timestamp-upload")), goes if goes > 0 else math.inf)
                yield str(about.get("filename")), paste

    def download(self, paste: str) -> Answer:
        """The item's bytes."""
        return self._ask("GET", f"/{quote(paste, safe='')}/download", fine=(404, 410), most=PASTE)

    def create(self, title: str, text: str, lifetime: int) -> str:
        """Upload in one piece, in base64 as the server wants it."""
        size = len(text)
        headers = {
            "Content-Type": "text/plain",
            "Content-Filename": title,
            "Content-Range": f"bytes 0-{size - 1}/{size}",
            "Maxlife-Unit": "MINUTES",
            "Maxlife-Value": str(math.ceil(lifetime / 60)),
        }
        answer = self._ask("POST", "", headers=headers, data=base64.b64encode(text.encode()))
        return str(answer.headers.get("Content-Location", "")).rpartition("/")[2]

    def delete(self, paste: str) -> None:
        """Delete an item."""
        self._ask("POST", f"/{quote(paste, safe='')}/delete", fine=(404, 410))

    def _ask(self, method: str, path: str, **more: Any) -> Answer:
        return self.web.ask(method, f"/apis/rest/items{path}", auth=self._auth, **more)


def _decoded(answer: Answer) -> dict[str, Any]:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{answer.body[:80]!r} is no JSON; check the options service and url") from error
    if not isinstance(value, dict):
        raise StoreError(f"{answer.body[:80]!r} is no JSON object; check the options service and url")
    return value


def number(value: object) -> float:
    """A time as services write it, 0 for anything else."""
    try:
        number = float(value)  # type: ignore[arg-type] # whatever it is, it may not be a number
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) else 0.0
