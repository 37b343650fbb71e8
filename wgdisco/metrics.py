"""The agent's report as OpenMetrics text: the agent writes it beside state.json, node_exporter's textfile reads it.

Only gauges and counters, and no timestamps, so that readers of the older Prometheus text format take it too. Nothing
in it is an address. A peer's label is its full public key, since a label that is cut could change what it names; with
more than 500 peers (`MANY`) there are totals alone, since the report then holds now these peers and now those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from wgdisco.report import MANY, STATES, PeerReport, Report, total

__all__ = ["FAMILIES", "Family", "metrics"]


@dataclass(frozen=True)
class Family:
    """One metric: its name without `_total`, its type, what it says; the unit is the end of its name."""

    name: str
    kind: str
    help: str
    unit: str = ""


def _gauge(name: str, text: str, unit: str = "") -> Family:
    return Family(f"wgdisco_{name}", "gauge", text, unit)


def _counter(name: str, text: str, unit: str = "") -> Family:
    return Family(f"wgdisco_{name}", "counter", text, unit)


WRITTEN = _gauge("written_timestamp_seconds", "When the agent wrote this.", "seconds")
STATE = _gauge("state", "1 for the state the agent is in: running, waiting (no usable interface) or stopped.")
ISSUED = _gauge("record_issued_timestamp_seconds", "When our own record was signed.", "seconds")
ENDS = _gauge("record_ends_timestamp_seconds", "When our own record expires.", "seconds")
CANDIDATES = _gauge("candidates", "Our own endpoints, by kind.")
ANSWERED = _gauge("backend_answered_timestamp_seconds", "When the backend last did what it was asked.", "seconds")
STORED = _gauge("backend_stored_timestamp_seconds", "When our record was last put into the backend.", "seconds")
FAILING = _gauge("backend_failing", "1 while the backend fails.")
PEERS = _gauge("peers", "Peers of the interface, by state.")
CONNECTED = _gauge("peer_connected", "1 while the peer is connected.")
IMPOSSIBLE = _gauge("peer_impossible", "1 when the NATs of this pair cannot be punched through.")
HANDSHAKE = _gauge("peer_handshake_timestamp_seconds", "When the latest handshake with the peer was.", "seconds")
RECEIVED = _gauge("peer_received_timestamp_seconds", "When bytes of the peer last came in.", "seconds")
RECORD = _gauge("peer_record_issued_timestamp_seconds", "When the peer's freshest record was signed.", "seconds")
RECEIVE = _counter("peer_receive_bytes", "Bytes received from the peer, as WireGuard counts them.", "bytes")
TRANSMIT = _counter("peer_transmit_bytes", "Bytes sent to the peer, as WireGuard counts them.", "bytes")
COUNTERS = {
    "publishes": _counter("publishes", "Publishes since the agent started."),
    "publish_failures": _counter("publish_failures", "Publishes that no backend took."),
    "records": _counter("records", "Fresher records of peers found."),
    "refused": _counter("refused", "Values in the slots of peers that were not valid records."),
    "connects": _counter("connects", "Handshakes that came about while connecting."),
    "moves": _counter("moves", "Endpoints of live sessions that were replaced."),
    "restarts": _counter("restarts", "Tasks of the agent that ended with an error and were started again."),
}
"""By the field of `Counters`."""
FAMILIES = (
    WRITTEN,
    STATE,
    *(ISSUED, ENDS, CANDIDATES),
    *(ANSWERED, STORED, FAILING),
    *(PEERS, CONNECTED, IMPOSSIBLE, HANDSHAKE, RECEIVED, RECORD, RECEIVE, TRANSMIT),
    *COUNTERS.values(),
)

Samples = Iterable[tuple[Mapping[str, str], float]]


def metrics(report: Report) -> str:
    """OpenMetrics 1.0 text of a report, every metric with the label `interface`; times never reached are left out."""
    samples = dict(_interface(report)) | dict(_backends(report)) | dict(_peers(report))
    lines: list[str] = []
    for family in FAMILIES:
        lines += _family(family, samples.get(family, ()), {"interface": report.interface})
    return "\n".join([*lines, "# EOF", ""])


def _interface(report: Report) -> Iterator[tuple[Family, Samples]]:
    yield WRITTEN, [({}, report.written)]
    yield STATE, [({"state": each}, float(report.state == each)) for each in ("running", "waiting", "stopped")]
    yield ISSUED, _once({}, report.issued)
    yield ENDS, _once({}, report.ends)
    kinds = [each.kind for each in report.candidates]
    yield CANDIDATES, [({"kind": kind}, float(kinds.count(kind))) for kind in dict.fromkeys(kinds)]
    yield PEERS, [({"state": each}, float(report.totals.get(each, 0))) for each in STATES]
    for field, family in COUNTERS.items():
        yield family, [({}, float(getattr(report.counters, field)))]


def _backends(report: Report) -> Iterator[tuple[Family, Samples]]:
    named = [({"backend": each.name}, each) for each in report.backends]
    yield ANSWERED, [sample for label, each in named for sample in _once(label, each.answered)]
    yield STORED, [sample for label, each in named for sample in _once(label, each.stored)]
    yield FAILING, [(label, float(bool(each.error))) for label, each in named]


def _peers(report: Report) -> Iterator[tuple[Family, Samples]]:
    if total(report) > MANY:
        return
    named = [({"public_key": each.key}, each) for each in report.peers]
    yield CONNECTED, [(label, float(each.state == "connected")) for label, each in named]
    yield IMPOSSIBLE, [(label, float(bool(each.verdict))) for label, each in named]
    yield HANDSHAKE, [sample for label, each in named for sample in _once(label, each.handshake)]
    yield RECEIVED, [sample for label, each in named for sample in _once(label, each.received)]
    yield RECORD, [sample for label, each in named for sample in _once(label, _issued(each))]
    yield RECEIVE, [(label, float(each.rx)) for label, each in named]
    yield TRANSMIT, [(label, float(each.tx)) for label, each in named]


def _issued(peer: PeerReport) -> float:
    return 0.0 if peer.record is None else peer.record.issued


def _once(label: Mapping[str, str], when: float) -> Samples:
    """A time, or nothing for a time that was never."""
    return [(label, when)] if when else []


def _family(family: Family, samples: Samples, common: Mapping[str, str]) -> Iterator[str]:
    """The lines of one metric; nothing when it has no samples."""
    values = [f"{_labels({**common, **label})} {_number(value)}" for label, value in samples]
    if not values:
        return
    yield f"# TYPE {family.name} {family.kind}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {family.help}"
    suffix = "_total" if family.kind == "counter" else ""
    yield from (f"{family.name}{suffix}{value}" for value in values)


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}"


def _escaped(value: str) -> str:
    r"""OpenMetrics 1.0, "escaped-string": `\` `"` and line feed."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    """Without a fraction where there is none, and never in exponents, which lose digits of a time."""
    return str(int(value)) if value == int(value) else f"{value:.3f}"
