"""Reports as an agent writes them, of this very process, so that they count as written by a live one."""

from __future__ import annotations

import os
from typing import Any

from wgdisco.keys import PrivateKey
from wgdisco.report import BackendReport, CandidateReport, PeerReport, RecordReport, Report, life

NOW = 1_800_000_000.0
ALICE, BOB, CAROL = (str(PrivateKey(bytes([each]) * 32).public) for each in b"abc")
OPEN = ("endpoint-independent", "endpoint-independent")
HARD = ("address-and-port-dependent", "address-and-port-dependent")


def a_candidate(result: str = "answered", **fields: Any) -> CandidateReport:
    """A candidate of a peer."""
    return CandidateReport(
        **{"endpoint": "198.51.100.11:51820", "kind": "server-reflexive", "result": result, **fields}
    )


def a_record(**fields: Any) -> RecordReport:
    """A peer's record, 12 seconds old."""
    usual = {"issued": NOW - 12, "ends": NOW + 3588, "backend": "etcd", "nat": OPEN, "checks": True}
    return RecordReport(**{**usual, "candidates": [a_candidate("no answer")], **fields})


def a_peer(**fields: Any) -> PeerReport:
    """A peer whose record is there, and which does not answer."""
    usual = {"key": BOB, "state": "connecting", "since": NOW - 60, "record": a_record()}
    return PeerReport(**{**usual, **fields})


def a_backend(**fields: Any) -> BackendReport:
    """A store that works."""
    return BackendReport(**{"name": "etcd", "answered": NOW - 3, "stored": NOW - 100, **fields})


def a_report(**fields: Any) -> Report:
    """The report of an agent that runs as this process and has published."""
    process, boot = life(os.getpid())
    usual = {
        "written": NOW - 1,
        "interface": "wg0",
        "state": "running",
        "since": NOW - 7200,
        "pid": os.getpid(),
        "process": process,
        "boot": boot,
        "key": ALICE,
        "port": 51820,
        "issued": NOW - 100,
        "ends": NOW + 3500,
        "readers": "each of 2 peers",
        "nat": OPEN,
        "translated": True,
        "backends": [a_backend()],
        "peers": [a_peer()],
        "totals": {"connected": 0, "connecting": 1, "searching": 0, "waiting": 0},
    }
    return Report(**{**usual, **fields})
