"""What the agent says about itself: one JSON file in /run, written by the agent and read by `status`, `why` and jq."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
from msgspec import Struct, field

from wgdisco.errors import AccessError, NotFound

__all__ = [
    "FOLDER",
    "MANY",
    "STATES",
    "VERSION",
    "BackendReport",
    "CandidateReport",
    "Counters",
    "PeerReport",
    "RecordReport",
    "Report",
    "age",
    "alive",
    "interfaces",
    "life",
    "read",
    "replace",
    "total",
    "where",
    "write",
]

FOLDER = Path("/run/wgdisco")
"""A file for each interface lies in here: /run/wgdisco/wg0/state.json, and metrics.prom beside it."""
MANY = 500
"""Beyond so many peers the report holds totals only, and those peers that are being connected."""
VERSION = 1
"""Of the report: changes when a field changes its meaning."""
STATES = ("connected", "idle", "connecting", "searching", "waiting")
"""What a peer can be: see PeerReport."""


class CandidateReport(Struct, kw_only=True, omit_defaults=True):
    """One of our own candidates, or one of a peer's with what came of it.

    `kind` is the candidate's kind in the record's words and `source` who said so (our own). Of a peer's: `result` is
    "answered", "no answer", "not tried" or "" (not yet), `reason` why it was not tried, `rtt` in seconds, `at` when
    that was (unix seconds).
    """

    endpoint: str
    kind: str
    source: str = ""
    result: str = ""
    reason: str = ""
    rtt: float | None = None
    at: float | None = None


class BackendReport(Struct, kw_only=True, omit_defaults=True):
    """One store. All times are unix seconds, 0 for never.

    `answered`: when it last did what it was asked. `error`: why not, since `failed`, "" when all is well.
    `rests`: until when it is left alone. `stored`: when our record was last put into it.
    """

    name: str
    answered: float = 0.0
    stored: float = 0.0
    failed: float = 0.0
    error: str = ""
    rests: float = 0.0


class RecordReport(Struct, kw_only=True, omit_defaults=True):
    """A peer's freshest record: times in unix seconds, the backend that gave it, its NAT (mapping, filtering)."""

    issued: float
    ends: float
    backend: str
    nat: tuple[str, str] = ("unknown", "unknown")
    checks: bool = False
    candidates: list[CandidateReport] = field(default_factory=list)


class PeerReport(Struct, kw_only=True, omit_defaults=True):
    """One peer: times are unix seconds, 0 for never; `rx` and `tx` bytes.

    `state`: "connected", "idle" (no session, as nobody has anything to say), "connecting", "searching" (no record yet),
    "waiting" (nothing works, tried now and then).
    `received`: when rx last grew. `since`: when `state` began. `verdict`: why this pair cannot work, "" when it can.
    `last` is the latest thing done about it, a sentence. `refused` counts values in its slots that were not acceptable,
    by the reason's name (docs/record.md section 5).
    """

    key: str
    state: str
    since: float = 0.0
    endpoint: str = ""
    handshake: float = 0.0
    received: float = 0.0
    rx: int = 0
    tx: int = 0
    keepalive: int = 0
    record: RecordReport | None = None
    verdict: str = ""
    last: str = ""
    refused: dict[str, int] = field(default_factory=dict)


class Counters(Struct, kw_only=True):
    """What happened since the agent started. They only grow."""

    publishes: int = 0
    publish_failures: int = 0
    """Publishes that no backend took."""
    records: int = 0
    """Fresher records found."""
    refused: int = 0
    """Values in our slots that were not valid records."""
    connects: int = 0
    """Handshakes that came about while we were trying."""
    moves: int = 0
    """Endpoints of live sessions that were replaced."""
    restarts: int = 0
    """Tasks that ended with an error and were started again."""


class Report(Struct, kw_only=True):
    """Everything `status` shows. Times are unix seconds; `version` changes when a field changes its meaning.

    `process` is the start time of `pid` in clock ticks (proc(5), stat, field 22) and `boot` the boot's id: together
    they name one process for ever. `state`: "running", "waiting" (no usable interface; `trouble` says why), "stopped".
    """

    version: int = VERSION
    written: float
    interface: str
    state: str
    since: float
    pid: int
    process: int
    boot: str
    trouble: str = ""
    key: str = ""
    port: int = 0
    fwmark: int = 0
    issued: float = 0.0
    ends: float = 0.0
    readers: str = ""
    nat: tuple[str, str] = ("unknown", "unknown")
    translated: bool | None = None
    candidates: list[CandidateReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    backends: list[BackendReport] = field(default_factory=list)
    peers: list[PeerReport] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    """Peers by state, also those `peers` leaves out.

    Where not each of them is followed, `peers` is how many there are and `records` of how many a record is known.
    """
    counters: Counters = field(default_factory=Counters)


def where(interface: str, folder: Path = FOLDER) -> Path:
    """The file of an interface's agent."""
    return folder / interface / "state.json"


def interfaces(folder: Path = FOLDER) -> list[str]:
    """The interfaces whose agent has left a report, sorted."""
    return sorted(path.parent.name for path in folder.glob("*/state.json"))


def write(report: Report, path: Path) -> None:
    """Replace the file, so that a reader sees the old or the new one whole; raises OSError."""
    replace(path, msgspec.json.encode(report) + b"\n")


def replace(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Write a file anew, so that a reader sees the old or the new one whole; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    with NamedTemporaryFile(dir=path.parent, prefix=".state-", delete=False) as file:
        try:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.close()
            os.replace(file.name, path)  # noqa: PTH105 - the name is a string here
        except BaseException:
            with suppress(OSError):
                os.unlink(file.name)  # noqa: PTH108 - the same
            raise


def read(path: Path) -> Report:
    """The report in a file; raises NotFound when there is none, AccessError when it cannot be read."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except FileNotFoundError:
        raise NotFound(f"{path}: no agent has written its state; start one with: wgdisco run -i INTERFACE") from None
    except OSError as error:
        raise AccessError(f"{path}: {error.strerror}; run this as the agent's user, or as root") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AccessError(f"{path}: not an agent's state of this version ({error}); restart the agent") from error
    if report.version != VERSION:
        raise AccessError(
            f"{path}: version {report.version}, expected {VERSION}; use the wgdisco that the agent was started with"
        )
    return report


def life(pid: int) -> tuple[int, str]:
    """What names a process for ever: its start time in clock ticks, 0 when there is none, and the boot's id."""
    with suppress(OSError, ValueError, IndexError):
        # the program's name, in parentheses, may hold anything
        started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return started, Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return 0, ""


def alive(report: Report) -> bool:
    """Whether the agent that wrote a report still runs."""
    return report.state != "stopped" and life(report.pid) == (report.process, report.boot) and report.process != 0


def total(report: Report) -> int:
    """How many peers the interface has, those that `peers` leaves out included."""
    return max(report.totals.get("peers", sum(report.totals.values())), len(report.peers))


def age(when: float, now: float | None = None) -> float:
    """Seconds since a time of the report, never below 0."""
    return max(0.0, (time.time() if now is None else now) - when)
