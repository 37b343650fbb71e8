"""The OpenMetrics text: read by the parser of Prometheus' own client, value by value."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as read_older_format

from tests.unit.reports import BOB, NOW, a_backend, a_candidate, a_peer, a_report
from wgdisco.metrics import COUNTERS, FAMILIES, metrics
from wgdisco.report import MANY, Counters, Report

PAGE = (Path(__file__).parents[2] / "docs" / "status.md").read_text()


def samples(report: Report) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Name of the sample -> its labels without the interface, sorted -> value."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(metrics(report)):
        for sample in family.samples:
            assert sample.labels["interface"] == report.interface
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "interface"))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def full() -> Report:
    """A report in which everything has a value."""
    return a_report(
        candidates=[a_candidate(), a_candidate(kind="host"), a_candidate(kind="host")],
        backends=[a_backend(), a_backend(name="dht", error="dht: gone", failed=NOW, stored=0.0)],
        peers=[a_peer(state="connected", handshake=NOW - 5, received=NOW - 2.5, rx=1239, tx=92, verdict="no")],
        totals={"connected": 1},
        counters=Counters(publishes=1, publish_failures=2, records=3, refused=4, connects=5, moves=6, restarts=7),
    )


def test_every_value_of_the_report() -> None:
    bob, etcd, dht = (("public_key", BOB),), (("backend", "etcd"),), (("backend", "dht"),)
    assert samples(full()) == {
        "wgdisco_written_timestamp_seconds": {(): NOW - 1},
        "wgdisco_state": {(("state", "running"),): 1, (("state", "waiting"),): 0, (("state", "stopped"),): 0},
        "wgdisco_record_issued_timestamp_seconds": {(): NOW - 100},
        "wgdisco_record_ends_timestamp_seconds": {(): NOW + 3500},
        "wgdisco_candidates": {(("kind", "server-reflexive"),): 1, (("kind", "host"),): 2},
        "wgdisco_backend_answered_timestamp_seconds": {etcd: NOW - 3, dht: NOW - 3},
        "wgdisco_backend_stored_timestamp_seconds": {etcd: NOW - 100},
        "wgdisco_backend_failing": {etcd: 0, dht: 1},
        "wgdisco_peers": {
            (("state", "connected"),): 1,
            (("state", "idle"),): 0,
            (("state", "connecting"),): 0,
            (("state", "searching"),): 0,
            (("state", "waiting"),): 0,
        },
        "wgdisco_peer_connected": {bob: 1},
        "wgdisco_peer_impossible": {bob: 1},
        "wgdisco_peer_handshake_timestamp_seconds": {bob: NOW - 5},
        "wgdisco_peer_received_timestamp_seconds": {bob: NOW - 2.5},
        "wgdisco_peer_record_issued_timestamp_seconds": {bob: NOW - 12},
        "wgdisco_peer_receive_bytes_total": {bob: 1239},
        "wgdisco_peer_transmit_bytes_total": {bob: 92},
        "wgdisco_publishes_total": {(): 1},
        "wgdisco_publish_failures_total": {(): 2},
        "wgdisco_records_total": {(): 3},
        "wgdisco_refused_total": {(): 4},
        "wgdisco_connects_total": {(): 5},
        "wgdisco_moves_total": {(): 6},
        "wgdisco_restarts_total": {(): 7},
    }


def test_types_units_and_help_are_those_of_the_families() -> None:
    parsed = list(text_string_to_metric_families(metrics(full())))
    assert [(each.name, each.type, each.unit, each.documentation) for each in parsed] == [
        (each.name, each.kind, each.unit, each.help) for each in FAMILIES
    ]
    assert all(each.name.endswith(f"_{each.unit}") for each in FAMILIES if each.unit)


def test_readers_of_the_older_text_format_take_it_too() -> None:
    """The textfile collector is one: it knows no type but the old ones, and rejects timestamps."""
    text = metrics(full())
    assert {line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")} == {"gauge", "counter"}
    old = {sample.name for family in read_older_format(text) for sample in family.samples}
    assert old == set(samples(full()))
    assert all(sample.timestamp is None for each in read_older_format(text) for sample in each.samples)


def test_it_ends_as_the_standard_says() -> None:
    assert metrics(full()).endswith("\n# EOF\n")


def test_times_that_never_were_are_left_out() -> None:
    bare = a_report(issued=0.0, ends=0.0, backends=[a_backend(answered=0.0)], peers=[a_peer(record=None)])
    found = samples(bare)
    assert {name for name in found if name.endswith("_timestamp_seconds")} == {
        "wgdisco_written_timestamp_seconds",
        "wgdisco_backend_stored_timestamp_seconds",
    }


def test_labels_are_escaped() -> None:
    odd = 'a"b\\c\nd'
    found = samples(a_report(interface=odd, backends=[a_backend(name=odd)]))
    assert set(found["wgdisco_backend_failing"]) == {(("backend", odd),)}


def test_beyond_five_hundred_peers_there_are_totals_alone() -> None:
    assert "wgdisco_peer_connected" in samples(a_report(totals={"connected": MANY}))
    found = samples(a_report(totals={"connected": MANY, "connecting": 1}))
    assert [name for name in found if name.startswith("wgdisco_peer_")] == []
    assert found["wgdisco_peers"][(("state", "connected"),)] == MANY


def test_nothing_in_it_is_an_address() -> None:
    text = metrics(a_report(candidates=[a_candidate(endpoint="203.0.113.7:4711", source="192.0.2.1")]))
    assert "203.0" not in text
    assert "192.0" not in text
    assert "198.51" not in text


def test_every_counter_of_the_report_has_a_metric() -> None:
    assert set(COUNTERS) == {each.name for each in msgspec.structs.fields(Counters)}


def test_the_page_lists_every_metric_with_its_type_and_no_other() -> None:
    rows = re.findall(r"^\| `(wgdisco_\w+)` \| (\w+) \| .+ \|$", PAGE, re.MULTILINE)
    suffix = {"counter": "_total", "gauge": ""}
    assert rows == [(f"{each.name}{suffix[each.kind]}", each.kind) for each in FAMILIES]
