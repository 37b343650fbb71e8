"""pastebin.com as one of the services of the backend `pastebin`."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator

from wgdisco.backends._pastebin_services import Paste, Service, number
from wgdisco.backends._pastebin_web import PASTE, Answer, Web
from wgdisco.errors import RetryLater, StoreError

__all__ = ["PastebinCom"]


class PastebinCom(Service):
    """pastebin.com's documented API (pastebin.com/doc_api): errors come as text, mostly with status 200."""

    lives = {"10M": 600, "1H": 3600, "1D": 86400, "1W": 604800, "2W": 1209600, "1M": 2592000, "1Y": 31536000}  # noqa: RUF012 - never changed
    most = 1000  # pastes in a list

    def __init__(self, web: Web, developer: str, user: str, *, public: bool) -> None:
        """Take the developer key and the user key, which stays valid until the next login."""
        super().__init__(web)
        self._keys = {"api_dev_key": developer, "api_user_key": user}
        self._private = "0" if public else "1"

    def listing(self) -> Iterator[tuple[str, Paste]]:
        """Every paste of the account, from a row of XML elements without a root."""
        text = self._post("list", api_results_limit=str(self.most))
        if "<paste>" not in text and not text.startswith("No pastes found"):
            raise _in_words("list", text)
        # no XML parser, which would have to be guarded against entities; the answer is flat
        for part in re.findall(r"<paste>(.*?)</paste>", text, re.DOTALL):
            fields = dict(re.findall(r"<paste_(key|title|date|expire_date)>([^<]*)<", part))
            if fields.get("key", "").isalnum():
                goes = number(fields.get("expire_date")) or math.inf  # 0 is never
                yield html.unescape(fields.get("title", "")), Paste(fields["key"], number(fields.get("date")), goes)

    def download(self, paste: str) -> Answer:
        """The text of a paste that is not private; no key is needed."""
        return self.web.ask("GET", f"/raw/{paste}", fine=(404, 410), most=PASTE)

    def create(self, title: str, text: str, lifetime: int) -> str:
        """Paste with the shortest expiry offered that is long enough."""
        expiry = next((name for name, seconds in self.lives.items() if seconds >= lifetime), "N")
        settings = {"api_paste_private": self._private, "api_paste_expire_date": expiry}
        said = self._post("paste", api_paste_code=text, api_paste_name=title, **settings).strip()
        if not re.fullmatch(r"https?://[^\s]+/[A-Za-z0-9]+", said):
            raise _in_words("paste", said)
        return said.rpartition("/")[2]

    def delete(self, paste: str) -> None:
        """Delete a paste of the account; of one that is gone the service says that we have no permission."""
        said = self._post("delete", api_paste_key=paste)
        if not said.startswith("Paste Removed") and "permission to remove paste" not in said:
            raise _in_words("delete", said)

    def _post(self, option: str, **more: str) -> str:
        """One call; a status other than 200 may still carry the service's own words."""
        answer = self.web.ask(
            "POST",
            "/api/api_post.php",
            fine=(400, 401, 403, 404, 422),
            data={**self._keys, "api_option": option, **more},
        )
        return answer.text


def _in_words(option: str, text: str) -> StoreError:
    """The error for what pastebin.com says instead of an answer."""
    said = f"pastebin.com refused {option}: {text.strip()[:120]!r}"
    if "Post limit" in text:
        return RetryLater(3600.0, f"{said}; the pastes of this day are used up, publish less often or on another store")
    if "IP blocked" in text or "too many" in text.lower():
        return RetryLater(300.0, said)
    if "maximum number of" in text:
        return StoreError(f"{said}; delete some in the account, or set public = true")
    if "api_user_key" in text:
        return StoreError(f"{said}; a login replaces the user key: make a new one for the option token")
    if "api_dev_key" in text:
        return StoreError(f"{said}; check the option key")
    return StoreError(said)
