"""Kill `wgdisco publish` at one line after another, and publish undisturbed after each kill (used by test_promises.py).

usage: publish_killer.py PUBLIC_KEY SHELF KILLS ARGUMENT…   prints a line of JSON after each publish: whether it was
killed, its exit code, its port, and what a reader that remembers all finds then (time and port, or the reason). The
clock stands still, so that only what was remembered keeps a timestamp from being used twice.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import wgdisco
from wgdisco.audience import Audience
from wgdisco.backend import from_text
from wgdisco.cli.main import main as wgdisco_main
from wgdisco.errors import RecordRefused
from wgdisco.freshness import Marks, read
from wgdisco.keys import PublicKey

CODE = str(Path(wgdisco.__file__).parent)
EARLY = ("cli.publish", "node", "publication", "upkeep", "announce", "sources", "backends.folder", "state.database")


class Reader:
    """Reads a folder as it lies there, and never forgets."""

    def __init__(self, subject: PublicKey, shelf: Path) -> None:
        self.subject, self.shelf, self.marks = subject, shelf, Marks()

    def look(self) -> dict[str, object]:
        now = time.time_ns() // 1_000_000
        audience = Audience.key(self.subject)
        place = audience.place(self.subject, audience.period(self.subject, now))
        try:
            blob = from_text((self.shelf / place.text).read_text().strip())
            accepted = read(blob or b"", place, self.marks, now)
        except (FileNotFoundError, RecordRefused) as error:
            return {"reason": str(error)}
        port = accepted.record.candidates[0].endpoint.port
        return {"issued": accepted.record.issued, "port": port, "equivocation": accepted.equivocation}


def publish(words: list[str], kill_at: int) -> tuple[bool, int, int]:
    """Run it in a child that dies at its line `kill_at`, 0 for never: whether it died, its exit code, its lines."""
    back, pipe = os.pipe()
    if (child := os.fork()) == 0:
        _child(words, kill_at, pipe)
    os.close(pipe)
    _, status = os.waitpid(child, 0)
    with os.fdopen(back) as told:
        lines = int(told.read() or 0)
    return os.WIFSIGNALED(status), os.waitstatus_to_exitcode(status), lines


def _child(words: list[str], kill_at: int, pipe: int) -> None:
    lines = 0

    def on_line(_frame, event, _argument):
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame, _event, _argument):
        return on_line if frame.f_code.co_filename.startswith(CODE) else None

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    threading.settrace(on_call)
    sys.settrace(on_call)
    try:
        code = wgdisco_main(words)
        sys.settrace(None)
        os.write(pipe, str(lines).encode())
    except BaseException:  # noqa: BLE001 - a forked child goes no further
        code = 99
        sys.excepthook(*sys.exc_info())
    os._exit(code)


def main(key: str, shelf: str, kills: str, *words: str) -> None:
    now = time.time_ns()
    time.time_ns = lambda: now
    for name in EARLY:
        importlib.import_module(f"wgdisco.{name}")
    reader, port = Reader(PublicKey.parse(key), Path(shelf)), 1000

    def once(kill_at: int) -> int:
        nonlocal port
        port += 1
        killed, code, lines = publish([*words, "-e", f"192.0.2.7:{port}"], kill_at)
        print(json.dumps({"killed": killed, "code": code, "told": port, "lines": lines} | reader.look()), flush=True)
        return lines

    once(0)
    lines = once(0)
    for number in range(int(kills)):
        once(lines // 4 + number * (lines - lines // 4) // int(kills))
        lines = once(0)  # what is remembered grows, and so does the work


if __name__ == "__main__":
    main(*sys.argv[1:])
