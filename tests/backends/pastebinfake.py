"""pastebin.com and GitHub's gists as their documentation has them, as a program: `pastebinfake.py PORT`.

It keeps everything in memory. A process of its own, so that it can be frozen and killed.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock
from urllib.parse import parse_qsl

DEVELOPER, USER, TOKEN, GIST = "developer0key", "user0key", "github0token", "c0ffee"
LIVES = {"10M": 600, "1H": 3600, "1D": 86400, "1W": 604800, "2W": 1209600, "1M": 2592000, "6M": 0, "1Y": 31536000}
PASTE = (
    "<paste>\r\n<paste_key>{key}</paste_key>\r\n<paste_date>{made}</paste_date>\r\n<paste_title>{title}</paste_title>\r\n"
    "<paste_size>{size}</paste_size>\r\n<paste_expire_date>{expires}</paste_expire_date>\r\n"
    "<paste_private>{private}</paste_private>\r\n<paste_format_long>None</paste_format_long>\r\n"
    "<paste_format_short>text</paste_format_short>\r\n<paste_url>https://pastebin.com/{key}</paste_url>\r\n"
    "<paste_hits>0</paste_hits>\r\n</paste>\r\n"
)
BAD = "Bad API request, "

lock = Lock()
numbers = count(time.time_ns() % 10**9)  # an id is never used twice, also not after a restart
pastes: dict[str, dict[str, str]] = {}
files: dict[str, str] = {"README.md": "the meeting point"}


def post(form: dict[str, str]) -> str:
    """POST /api/api_post.php: everything with status 200."""
    if form.get("api_dev_key") != DEVELOPER:
        return BAD + "invalid api_dev_key"
    if form.get("api_user_key") != USER:
        return BAD + "invalid api_user_key"
    options = {"paste": paste, "list": listing, "delete": delete}
    return options.get(form.get("api_option", ""), lambda _: BAD + "invalid api_option")(form)


def paste(form: dict[str, str]) -> str:
    if not form.get("api_paste_code"):
        return BAD + "api_paste_code was empty"
    expiry = form.get("api_paste_expire_date", "N")
    if expiry != "N" and expiry not in LIVES:
        return BAD + "invalid api_expire_date"
    key, now = f"Key{next(numbers):05}", int(time.time())
    pastes[key] = {
        "key": key, "text": form["api_paste_code"], "title": form.get("api_paste_name", ""), "made": str(now),
        "size": str(len(form["api_paste_code"])), "private": form.get("api_paste_private", "0"),
        "expires": "0" if expiry == "N" else str(now + LIVES[expiry]),
    }  # fmt: skip
    return f"https://pastebin.com/{key}"


def listing(form: dict[str, str]) -> str:
    newest = list(pastes.values())[::-1][: int(form.get("api_results_limit", "50"))]
    return "".join(PASTE.format(**each) for each in newest) or "No pastes found."


def delete(form: dict[str, str]) -> str:
    gone = pastes.pop(form.get("api_paste_key", ""), None)
    return "Paste Removed" if gone else BAD + "invalid permission to remove paste"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path.startswith("/raw/"):
            found = pastes.get(self.path[5:])
            self.say(200, found["text"]) if found else self.say(404, "<html>Not Found (#404)</html>")
        elif self.path == f"/gists/{GIST}":
            self.gist()
        else:
            self.say(404, '{"message": "Not Found"}')

    def gist(self) -> None:
        with lock:
            shown = {
                name: {"filename": name, "size": len(text), "truncated": False, "content": text}
                for name, text in files.items()
            }
        body = json.dumps({"id": GIST, "public": False, "files": shown, "owner": {"login": "somebody"}})
        etag = 'W/"' + hashlib.sha256(body.encode()).hexdigest() + '"'
        same = self.headers.get("If-None-Match") == etag
        self.say(304 if same else 200, "" if same else body, ETag=etag)

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.body().decode()))
        with lock:
            said = post(form) if self.path == "/api/api_post.php" else BAD + "invalid api_option"
        self.say(200, said)

    def do_PATCH(self) -> None:
        changes = json.loads(self.body())["files"]
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.say(401, '{"message": "Bad credentials"}')
        with lock:
            for name, change in changes.items():
                if change is None:
                    files.pop(name, None)
                else:
                    files[name] = change["content"]
        return self.gist()

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def say(self, status: int, text: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
