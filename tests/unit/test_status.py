"""`wgdisco status`: what each kind of report looks like, the exit codes, and that it is the default command."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import msgspec
import pytest
from msgspec.structs import fields

from tests.support import require_binary
from tests.unit.reports import ALICE, BOB, CAROL, NOW, a_backend, a_candidate, a_peer, a_record, a_report
from tests.unit.test_layering import HEAVY, loaded_by
from wgdisco import report
from wgdisco.cli import describe, show, status
from wgdisco.cli.main import main
from wgdisco.report import BackendReport, CandidateReport, Counters, PeerReport, RecordReport, Report

PAGE = (Path(__file__).parents[2] / "docs" / "status.md").read_text()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of reports, and a clock that stands still."""
    monkeypatch.setattr("wgdisco.report.FOLDER", tmp_path)
    monkeypatch.setattr("wgdisco.cli.status.time", lambda: NOW)
    return tmp_path


def put(folder: Path, **fields) -> Report:
    made = a_report(**fields)
    report.write(made, report.where(made.interface, folder))
    return made


def test_the_whole_of_it_in_the_shape_of_wg(capsys, folder) -> None:
    put(
        folder,
        fwmark=0xCA6C,
        candidates=[a_candidate(endpoint="203.0.113.7:4711", source="stun.example.org")],
        backends=[
            a_backend(),
            a_backend(name="dht", error="dht: no answer within 5 s", failed=NOW - 300, rests=NOW + 20, stored=0.0),
            a_backend(name="lan", answered=0.0, stored=0.0),
        ],
        problems=["stun: stun.example.net does not answer"],
        peers=[
            a_peer(
                state="connected",
                endpoint="198.51.100.11:51820",
                handshake=NOW - 63,
                received=NOW - 2,
                rx=1239,
                tx=92,
                keepalive=25,
                last="moved to 198.51.…:51820",
            ),
            a_peer(key=CAROL, state="searching", since=0.0, record=None, verdict="both NATs are symmetric"),
        ],
        totals={"connected": 1, "connecting": 0, "searching": 1, "waiting": 0},
    )
    assert main([]) == 0
    assert capsys.readouterr() == (
        f"""interface: wg0
  agent: running for 2 hours (pid {os.getpid()}, written 1 second ago)
  public key: {ALICE}
  listening port: 51820
  fwmark: 0xca6c
  record: 1 minute, 40 seconds old, stored by etcd; expires in 58 minutes, 20 seconds; readable by each of 2 peers
  endpoint: 203.0.113.7:4711 (server-reflexive; stun.example.org)
  nat: endpoint-independent mapping, endpoint-independent filtering: others can punch through
  backend: etcd: answered 3 seconds ago; stored our record 1 minute, 40 seconds ago
  backend: dht: fails for 5 minutes: no answer within 5 s; left alone for another 20 seconds; answered 3 seconds ago
  backend: lan: not asked yet
  problem: stun: stun.example.net does not answer
  peers: 1 connected, 1 searching

peer: {BOB}
  state: connected for 1 minute
  endpoint: 198.51.100.11:51820
  latest handshake: 1 minute, 3 seconds ago
  transfer: 1.21 KiB received (2 seconds ago), 92 B sent
  persistent keepalive: every 25 seconds
  record: 12 seconds old, from etcd; expires in 59 minutes, 48 seconds
  last: moved to 198.51.…:51820

peer: {CAROL}
  state: searching
  latest handshake: never
  record: none found
  verdict: both NATs are symmetric
""",
        "",
    )


DEAD = {"process": 1}  # the pid was given to another process since
STATES = [
    ({}, 0, "running for 2 hours (pid {pid}, written 1 second ago)"),
    (
        {"state": "waiting", "trouble": "wg0 is gone"},
        0,
        "waiting for 2 hours (pid {pid}, written 1 second ago): wg0 is gone",
    ),
    (
        {"written": NOW - 31},
        1,
        "hanging (pid {pid} is there, but has written nothing for 31 seconds)",
    ),
    ({"written": NOW - 30}, 0, "running for 2 hours (pid {pid}, written 30 seconds ago)"),
    (
        {"written": NOW - 300, **DEAD},
        1,
        "dead (pid {pid} is gone); what follows is 5 minutes old; start it with: wgdisco run -i wg0",
    ),
    ({"boot": "another", "written": NOW - 1}, 1, None),
    ({"state": "stopped"}, 1, "stopped 1 second ago; start it with: wgdisco run -i wg0"),
]


@pytest.mark.parametrize(
    ("fields", "code", "text"), STATES, ids=lambda value: "" if isinstance(value, dict) else str(value)
)
def test_the_agent_shows_as_what_it_is(capsys, folder, fields: dict, code: int, text: str | None) -> None:
    put(folder, **fields)
    assert main(["status"]) == code
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("  agent: dead") if text is None else line == "  agent: " + text.format(pid=os.getpid())


def test_an_agent_that_has_ended_or_waits_says_nothing_of_what_it_does_not_know(capsys, folder) -> None:
    """Its report is empty then: no peers is not what it says."""
    empty = {"key": "", "peers": [], "totals": {}, "backends": [], "issued": 0.0}
    put(folder, state="stopped", **empty)
    main([])
    assert capsys.readouterr().out == (
        "interface: wg0\n  agent: stopped 1 second ago; start it with: wgdisco run -i wg0\n"
    )


def test_one_dead_agent_among_live_ones_is_told_by_the_exit_code(capsys, folder) -> None:
    put(folder, interface="wg0", **DEAD)
    put(folder, interface="wg1")
    assert main(["status"]) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("interface")] == [
        "interface: wg0",
        "interface: wg1",
    ]
    assert main(["status", "-i", "wg1"]) == 0
    assert main(["-i", "wg1"]) == 0


def test_without_any_agent_the_next_step_is_named(capsys, folder) -> None:
    assert main([]) == 1
    out, err = capsys.readouterr()
    assert (out, err.partition("; ")) == (
        "",
        (
            f"wgdisco: no agent has written its state in {folder}",
            "; ",
            "start one with: wgdisco run -i INTERFACE (all commands: wgdisco --help)\n",
        ),
    )
    assert main(["-i", "wg7"]) == 1
    assert "wgdisco run -i" in capsys.readouterr().err


def test_a_report_that_cannot_be_read_hides_no_other(capsys, folder) -> None:
    put(folder, interface="wg1")
    (folder / "wg0").mkdir()
    (folder / "wg0" / "state.json").write_text("{")
    assert main([]) == 4
    out, err = capsys.readouterr()
    assert out.startswith("interface: wg1\n")
    assert err.startswith(f"wgdisco: {folder}/wg0/state.json: not an agent's state of this version")


def test_a_report_of_another_version_is_refused(capsys, folder) -> None:
    put(folder, version=2)
    assert main(["-i", "wg0"]) == 4
    assert "version 2, expected 1; use the wgdisco that the agent was started with" in capsys.readouterr().err


def test_json_is_the_report_with_its_version_and_whether_the_agent_is_alive(capsys, folder) -> None:
    told = put(folder)
    assert main(["--json", "-i", "wg0"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one == {"version": 1, "alive": True, **json.loads(msgspec.json.encode(told))}
    put(folder, **DEAD)
    assert main(["--json"]) == 1
    everything = json.loads(capsys.readouterr().out)
    assert (everything["version"], everything["interfaces"][0]["alive"]) == (1, False)


def test_json_has_every_field_of_the_report(capsys, folder) -> None:
    put(folder)
    main(["--json", "-i", "wg0"])
    assert set(json.loads(capsys.readouterr().out)) == {"alive", *Report.__struct_fields__}


class Interrupting:
    """Counts the pauses, does something in each, and then is the user's ^C."""

    def __init__(self, *steps) -> None:
        self.steps = list(steps)

    def __call__(self, seconds: float) -> None:
        assert seconds == 1.0
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


def test_watch_shows_changes_without_a_terminal_until_interrupted(capsys, folder, monkeypatch) -> None:
    """Also while there is no agent; what it returns is the latest state."""
    pause = Interrupting(lambda: put(folder), lambda: put(folder, **DEAD))
    monkeypatch.setattr("wgdisco.cli.status.sleep", pause)
    assert main(["--watch"]) == 1
    out, err = capsys.readouterr()
    assert re.findall(r"agent: (\w+)", out) == ["running", "dead"]
    assert "\x1b" not in out
    assert err.startswith("wgdisco: no agent has written its state")


def test_watch_clears_a_terminal_each_time(capsys, folder, monkeypatch) -> None:
    put(folder)
    monkeypatch.setattr("wgdisco.cli.status.sleep", Interrupting(lambda: None))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["--watch"]) == 0
    assert capsys.readouterr().out.count(status.CLEAR) == 2


def test_watch_with_json_is_an_object_a_line(capsys, folder, monkeypatch) -> None:
    put(folder)
    monkeypatch.setattr("wgdisco.cli.status.sleep", Interrupting(lambda: None))
    assert main(["--watch", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["interfaces"][0]["interface"] for line in lines] == ["wg0", "wg0"]


def test_a_summary_says_how_many_it_leaves_out(capsys, folder) -> None:
    put(folder, totals={"connected": 700, "connecting": 1})
    main([])
    assert capsys.readouterr().out.endswith("\n(700 more peers are in the totals alone)\n")


def test_text_of_a_store_moves_no_terminal(capsys, folder) -> None:
    put(folder, backends=[a_backend(error="etcd: \x1b[2Jgone", failed=NOW)], problems=["\x1b]0;x\a"], trouble="\r")
    main([])
    assert "\x1b" not in (text := capsys.readouterr().out)
    assert "\a" not in text
    assert "\r" not in text


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "none found"),
        (a_record(ends=NOW - 60), "12 seconds old, from etcd; expired 1 minute ago"),
        (a_record(issued=NOW + 60), "1 minute ahead of our clock, from etcd; expires in 59 minutes, 48 seconds"),
        (
            a_record(candidates=[]),
            "12 seconds old, from etcd; expires in 59 minutes, 48 seconds; it said that it is leaving",
        ),
    ],
)
def test_a_record_shows_its_age_its_end_and_its_store(found: RecordReport | None, text: str) -> None:
    assert describe.record(found, NOW) == text


@pytest.mark.parametrize(
    ("totals", "text"),
    [
        ({}, "none"),
        ({"connected": 0, "searching": 2}, "2 searching"),
        ({"idle": 1}, "1 idle"),
        ({"connected": 7, "peers": 9000, "records": 12}, "7 connected of 9000; 12 records known"),
        ({"connected": 0, "peers": 9000, "records": 0}, "0 connected of 9000; 0 records known"),
    ],
)
def test_peers_are_counted_by_state(totals: dict[str, int], text: str) -> None:
    assert f"  peers: {text}" in list(describe.interface(a_report(totals=totals), NOW))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1024**2 - 1, "1024.00 KiB"),
        (1024**2, "1.00 MiB"),
        (3 * 1024**3, "3.00 GiB"),
        (1024**4, "1.00 TiB"),
        (2048 * 1024**4, "2048.00 TiB"),
    ],
)
def test_bytes_are_written_as_wg_writes_them(count: int, text: str) -> None:
    assert show.size(count) == text


@pytest.mark.parametrize(
    ("nat", "text"),
    [
        (("endpoint-independent", "unknown", False), "none"),
        (("endpoint-independent", "endpoint-independent", False), "none"),
        (("endpoint-independent", "address-dependent", False), "none, but a firewall: address-dependent filtering"),
        (("unknown", "unknown", None), "unknown (two STUN servers have to answer)"),
        (
            ("address-dependent", "unknown", True),
            (
                "address-dependent mapping, unknown filtering (symmetric): "
                "only peers that are public or filter less than by address and port can be reached"
            ),
        ),
    ],
)
def test_a_nat_is_told_in_words(nat: tuple[str, str, bool | None], text: str) -> None:
    assert show.nat(*nat) == text


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"], ["--version"], ["-V"]], ids=" ".join)
def test_help_and_version_are_not_the_default_command(capsys, folder, words: list[str]) -> None:
    put(folder)
    assert main(words) == 0
    assert "interface: wg0" not in capsys.readouterr().out


def test_help_loads_no_library() -> None:
    code = "from wgdisco.cli.main import main\ntry:\n    main(['status', '--help'])\nexcept SystemExit:\n    pass"
    assert loaded_by(code) & HEAVY == set()


def test_a_report_that_names_no_process_is_of_no_live_agent() -> None:
    """Not even when the process that it names cannot be looked at either."""
    assert report.life(0) == (0, "")
    assert not report.alive(a_report(pid=0, process=0, boot=""))


@pytest.mark.parametrize(
    "least",
    [
        BackendReport(name="x"),
        PeerReport(key="x", state="x"),
        RecordReport(issued=1.0, ends=1.0, backend="x", nat=("", "")),
        CandidateReport(endpoint="x", kind="x"),
        Counters(),
        Report(written=1.0, interface="x", state="x", since=1.0, pid=1, process=1, boot="x", nat=("", "")),
    ],
    ids=lambda least: type(least).__name__,
)
def test_what_is_not_said_is_nothing(least: msgspec.Struct) -> None:
    """Readers may rely on it: a field that is left out is empty, 0, false or null."""
    said = [each.name for each in fields(least) if each.required] + ["version", "nat", "counters"]
    values = {name: value for name, value in msgspec.structs.asdict(least).items() if name not in said}
    assert [name for name, value in values.items() if value] == []


EXAMPLES = re.findall(r"^    wgdisco status ([^|]*) \| (jq .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    ("example", "answer"),
    [*zip(EXAMPLES, [re.escape(BOB), "", "dht: gone", rf"{re.escape(BOB)} -?\d+ s old"], strict=True)],
    ids=[command for _, command in EXAMPLES],
)
def test_the_examples_with_jq(capsys, folder, example: tuple[str, str], answer: str) -> None:
    """As they stand on the page, run by jq itself; only ages are counted from jq's own clock."""
    require_binary("jq")
    backends = [a_backend(), a_backend(name="dht", error="dht: gone", failed=NOW), a_backend(name="lan", error="")]
    put(folder, backends=backends, peers=[a_peer(), a_peer(key=CAROL, state="connected", record=None)])
    words, command = example
    main(["status", *words.split()])
    told = capsys.readouterr().out
    done = subprocess.run(shlex.split(command), input=told, capture_output=True, text=True, check=True)
    assert re.fullmatch(answer, done.stdout.removesuffix("\n"))


def test_the_page_names_how_many_peers_are_many() -> None:
    assert f"beyond {report.MANY} none" in PAGE
    assert f"more than {report.MANY} peers" in PAGE


STRUCTS = (Report, BackendReport, PeerReport, RecordReport, CandidateReport, Counters)
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}


def in_words(kind: object) -> str:
    """A type as the page names it."""
    if get_origin(kind) is list:
        return f"list of {in_words(*get_args(kind))}"
    if get_origin(kind) is dict:
        return f"object of {in_words(get_args(kind)[1])}"
    if get_origin(kind) is tuple:
        return f"{len(get_args(kind))} x {in_words(get_args(kind)[0])}"
    if get_args(kind):
        return " or ".join(in_words(each) for each in get_args(kind))
    return WORDS.get(kind, getattr(kind, "__name__", ""))


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_the_page_has_every_field_of_the_state_file_and_no_other(struct: type) -> None:
    part = PAGE.partition(f"### {struct.__name__}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| .+ \|$", part, re.MULTILINE)
    assert rows == [(name, in_words(kind)) for name, kind in get_type_hints(struct).items()]
