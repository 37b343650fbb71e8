"""`wgdisco why`: each rule by itself, their order, and the command with a live agent, a dead one, and none."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.unit.reports import (
    ALICE,
    BOB,
    CAROL,
    HARD,
    NOW,
    OPEN,
    a_backend,
    a_candidate,
    a_peer,
    a_record,
    a_report,
)
from tests.unit.test_layering import HEAVY, loaded_by
from tests.unit.wireguard_go import box
from wgdisco import report
from wgdisco.cli import why
from wgdisco.cli.case import Case, Reason
from wgdisco.cli.main import main
from wgdisco.cli.peers import chosen
from wgdisco.cli.reasons import RULES, likely, works
from wgdisco.device.routes import Route
from wgdisco.errors import InvalidKey, UsageError
from wgdisco.keys import PublicKey
from wgdisco.report import PeerReport

NOBODY_KNOWS = ("unknown", "unknown")
SHORT = f"{BOB[:8]}…"


def case(peer: PeerReport | None = None, agent: str = "reports", **fields) -> Case:
    """One peer of a report, which has published and of which a store answers unless said otherwise."""
    peer = peer or a_peer()
    return Case(a_report(peers=[peer], **fields), peer, NOW, agent)


def with_candidates(*candidates, **fields) -> PeerReport:
    return a_peer(record=a_record(candidates=list(candidates), **fields))


WATCH = "nothing to do; see it live: wgdisco status -i wg0 --watch"
WAIT = f"wait a few seconds and ask again: wgdisco why {BOB}"
PUBLISH = "wgdisco publish -i wg0 (it says what each store made of it)"
CLOCKS = "on both hosts: timedatectl (or date -u); set the clock that is wrong"
ELSEWHERE = (
    "on the peer: wgdisco status; its stores have to share one with ours (etcd), "
    f"and wg show has to list our key {ALICE}"
)
FORWARD = (
    "on one side let the router forward a UDP port to WireGuard (wgdisco run --portmap asks it; or by hand, with "
    "--endpoint ADDRESS:PORT), use IPv6, or route through a third peer"
)
PING = "ping an address of its allowed-ips, then ask again"
FIREWALL = "on the peer: wgdisco endpoints; its firewall has to let UDP in to WireGuard's port"
BOTH = "both NATs give every destination another port (symmetric), so neither side can say where it will be"

CASES = {
    "connected": (
        case(a_peer(state="connected", handshake=NOW - 10, received=NOW - 60)),
        Reason("connected", "connected; all is well", WATCH),
    ),
    "connected and quiet": (
        case(a_peer(state="connected", handshake=NOW - 100, received=NOW - 61)),
        Reason(
            "connected",
            "connected; nothing came in for 1 minute, 1 second, as is normal when nobody sends",
            "ping an address of its allowed-ips; without an answer compare the allowed-ips of both sides",
        ),
    ),
    "connected, and no agent": (
        case(a_peer(state="connected", handshake=NOW - 100), agent="none"),
        Reason(
            "connected", "connected; no agent runs, so nobody mends it when an address changes", "wgdisco run -i wg0"
        ),
    ),
    "the agent hangs": (
        case(a_peer(state="connected"), written=NOW - 31),
        Reason(
            "agent",
            "the agent of wg0 hangs: it has written nothing for 31 seconds",
            "restart it: systemctl restart wgdisco@wg0",
        ),
    ),
    "the agent is dead": (
        case(a_peer(state="connected"), process=1),
        Reason("agent", "the agent of wg0 is dead", "wgdisco run -i wg0"),
    ),
    "no interface": (
        case(state="waiting", trouble="there is no WireGuard interface 'wg0'"),
        Reason(
            "interface",
            "the agent waits for its interface wg0: there is no WireGuard interface 'wg0'",
            "wg show wg0",
        ),
    ),
    "a handshake and nothing after it": (
        case(a_peer(handshake=NOW - 180, received=NOW - 175)),
        Reason(
            "silent",
            "a handshake came about 3 minutes ago, but nothing came in for 2 minutes, 55 seconds: the path has died, "
            "or one side drops what the other sends",
            "ping an address of its allowed-ips; compare the allowed-ips of both sides and their firewalls",
        ),
    ),
    "nobody says anything": (
        case(a_peer(state="idle", handshake=NOW - 600, received=NOW - 500)),
        Reason(
            "idle",
            "no session, since neither side sends anything; WireGuard connects when one does",
            "ping an address of its allowed-ips; to be connected all the time, set a persistent keepalive",
        ),
    ),
    "our clock was set back": (
        case(issued=NOW + 6),
        Reason("clock", "our record is 6 seconds ahead of our own clock: the clock was set back", CLOCKS),
    ),
    "its record is ahead of our clock": (
        case(a_peer(record=a_record(issued=NOW + 60))),
        Reason("clock", "its record is 1 minute ahead of our clock: one of the two clocks is off", CLOCKS),
    ),
    "its record is refused as from the future": (
        case(a_peer(record=None, refused={"future": 2})),
        Reason("clock", "its record was refused because it is from the future: one of the two clocks is off", CLOCKS),
    ),
    "no backend": (
        case(backends=[]),
        Reason("stores", "no backend is in use", "choose one in /etc/wgdisco/wg0.toml; see: wgdisco backends"),
    ),
    "no backend answers": (
        case(
            backends=[
                a_backend(error="etcd: connection refused", failed=NOW - 9),
                a_backend(name="dht", error="dht: no answer within 5 s", failed=NOW),
            ]
        ),
        Reason(
            "stores",
            "no backend answers (etcd: connection refused; dht: no answer within 5 s)",
            "wgdisco check -i wg0",
        ),
    ),
    "begun a moment ago": (
        case(a_peer(state="searching", since=NOW - 4, record=None)),
        Reason("early", "searching for 4 seconds only", WAIT),
    ),
    "we have no record": (
        case(issued=0.0),
        Reason("unstored", "we have no record in any store, so the peer cannot find us", PUBLISH),
    ),
    "we have no record, and no agent": (
        case(agent="none", issued=0.0),
        Reason("unstored", "we have no record in any store, so the peer cannot find us", "wgdisco run -i wg0"),
    ),
    "our record expired": (
        case(ends=NOW - 60),
        Reason("unstored", "our own record expired 1 minute ago, so the peer cannot find us", PUBLISH),
    ),
    "our record is not stored": (
        case(backends=[a_backend(stored=0.0)]),
        Reason("unstored", "no backend has stored our record, so the peer cannot find us", PUBLISH),
    ),
    "no record of the peer": (
        case(a_peer(record=None)),
        Reason(
            "unknown",
            f"no store has a record of {SHORT}: wgdisco does not run there, uses other stores, or has not our key",
            ELSEWHERE,
        ),
    ),
    "only invalid records": (
        case(a_peer(record=None, refused={"signature": 1, "expired": 2})),
        Reason(
            "refused",
            "what the stores hold of it is not valid (2 expired, 1 signature)",
            "on the peer: wgdisco status; does it run, and what does its clock say?",
        ),
    ),
    "only expired records": (
        case(a_peer(record=None, refused={"expired": 2})),
        Reason(
            "expired",
            "the stores hold nothing of it but what has expired",
            "on the peer: wgdisco status; does it run, and what does its clock say?",
        ),
    ),
    "its record expired": (
        case(a_peer(record=a_record(ends=NOW - 60))),
        Reason(
            "expired",
            "its record expired 1 minute ago: wgdisco no longer runs there, or reaches none of our stores",
            "on the peer: wgdisco status",
        ),
    ),
    "it left": (
        case(with_candidates()),
        Reason(
            "left",
            "it said that it is leaving 12 seconds ago",
            "start it again on the peer: wgdisco run, or wgdisco connect",
        ),
    ),
    "all candidates skipped": (
        case(
            with_candidates(
                a_candidate("not tried", reason="no IPv6 route"),
                a_candidate("not tried", reason="loopback"),
                a_candidate("not tried", reason="no IPv6 route"),
            )
        ),
        Reason(
            "skipped",
            "none of its 3 candidates can be tried from here (no IPv6 route, loopback)",
            "on the peer: wgdisco endpoints; one of them has to be reachable from here",
        ),
    ),
    "both NATs are symmetric": (
        case(with_candidates(a_candidate("no answer"), nat=HARD), nat=HARD),
        Reason("impossible", f"this pair cannot be connected directly: {BOTH}", FORWARD),
    ),
    "the agent's verdict": (
        case(a_peer(verdict="it cannot")),
        Reason("impossible", "this pair cannot be connected directly: it cannot", FORWARD),
    ),
    "a path, but no handshake": (
        case(with_candidates(a_candidate("no answer", endpoint="192.0.2.1:1"), a_candidate("answered", at=NOW - 6))),
        Reason(
            "keys",
            "198.51.100.11:51820 answered our check, but no handshake came about: the keys of the two sides differ",
            f"on both: wg show; has the other side our key {ALICE} as a peer, "
            "and do both have the same preshared key or none?",
        ),
    ),
    "a path a moment ago": (
        case(with_candidates(a_candidate("answered", at=NOW - 4))),
        Reason("early", "198.51.100.11:51820 has just answered our check; the handshake comes next", WAIT),
    ),
    "an answer defeats the verdict": (
        case(a_peer(verdict="it cannot", record=a_record(candidates=[a_candidate("answered", at=NOW - 4)]))),
        Reason("early", "198.51.100.11:51820 has just answered our check; the handshake comes next", WAIT),
    ),
    "nobody connects": (
        case(with_candidates(a_candidate("")), agent="none"),
        Reason(
            "alone",
            "no agent runs on wg0, so nobody connects to it",
            f"wgdisco run -i wg0, or once: wgdisco connect {BOB}",
        ),
    ),
    "the agent leaves it out": (
        case(with_candidates(a_candidate("")), agent="silent"),
        Reason(
            "idle",
            "the agent of wg0 does not report on this peer: it was added a moment ago, or there are so many peers "
            "that those alone are connected that are in use",
            PING,
        ),
    ),
    "no answer": (
        case(with_candidates(a_candidate("no answer"), a_candidate("not tried", reason="loopback"))),
        Reason(
            "unanswered",
            "none of the 1 candidates tried has answered: a firewall, or it has moved since its record",
            FIREWALL,
        ),
    ),
    "no answer from whoever answers no checks": (
        case(with_candidates(a_candidate("no answer"), checks=False)),
        Reason(
            "unanswered",
            "none of the 1 candidates tried has answered (it answers no checks: no agent runs there): "
            "a firewall, or it has moved since its record",
            FIREWALL,
        ),
    ),
    "nothing is known": (
        case(a_peer(record=a_record(candidates=[a_candidate("")]), last="we start the handshake")),
        Reason(
            "nothing",
            "nothing is known to be wrong yet; what was done last: we start the handshake",
            "wgdisco status -i wg0 --watch",
        ),
    ),
}


@pytest.mark.parametrize(("known", "reason"), CASES.values(), ids=CASES)
def test_each_rule(known: Case, reason: Reason) -> None:
    assert likely(known) == reason


def test_every_rule_is_tested() -> None:
    """Each rule is the first that fits in at least one of the cases above."""
    first = {next(rule for rule in RULES if rule(known) is not None) for known, _ in CASES.values()}
    assert first == set(RULES)


@pytest.mark.parametrize(
    "known",
    [
        case(a_peer(handshake=NOW - 181, received=NOW - 175)),
        case(a_peer(handshake=NOW - 70, received=NOW - 59)),
        case(issued=NOW + 4),
        case(a_peer(record=a_record(issued=NOW + 4, candidates=[a_candidate("no answer")]))),
        case(a_peer(since=NOW - 5)),
        case(backends=[a_backend(), a_backend(name="dht", error="gone", failed=NOW)]),
        case(with_candidates(a_candidate("no answer"), nat=OPEN), nat=HARD),
    ],
    ids=["long ago", "not quiet yet", "rounding", "its rounding", "not early", "one answers", "open NAT"],
)
def test_what_is_just_within_bounds_is_no_reason(known: Case) -> None:
    assert likely(known).name == "unanswered"


def test_only_connected_is_well() -> None:
    assert {reason.name for _, reason in CASES.values() if works(reason)} == {"connected"}


@pytest.mark.parametrize(
    ("ours", "theirs", "possible"),
    [
        (OPEN, OPEN, True),
        (HARD, HARD, False),
        (OPEN, NOBODY_KNOWS, None),
        ((OPEN[0], "unknown"), (OPEN[0], "unknown"), True),
        (NOBODY_KNOWS, OPEN, None),
    ],
)
def test_whether_a_pair_is_possible_may_be_unknown(ours, theirs, possible: bool | None) -> None:
    assert case(a_peer(record=a_record(nat=theirs)), nat=ours).possible is possible


def test_a_peer_without_a_record_may_be_possible() -> None:
    assert case(a_peer(record=None)).possible is None


# ---- the command with an agent


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A host without WireGuard and without agents, with state of its own."""
    monkeypatch.setattr("wgdisco.report.FOLDER", tmp_path / "run")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr("wgdisco.device.list_devices", list)
    monkeypatch.setattr("wgdisco.config.FOLDER", tmp_path / "etc")
    return tmp_path / "run"


@pytest.fixture
def still(monkeypatch) -> None:
    """A clock that stands still at the time of the reports."""
    monkeypatch.setattr("wgdisco.cli.why.time", lambda: NOW)


def put(folder: Path, **fields) -> None:
    made = a_report(**fields)
    report.write(made, report.where(made.interface, folder))


@pytest.mark.usefixtures("still")
def test_the_whole_of_it(capsys, folder) -> None:
    candidates = [
        a_candidate("answered", rtt=0.9, at=NOW - 8),
        a_candidate("no answer", endpoint="[2001:db8::1]:51820", kind="host", at=NOW - 9),
        a_candidate("not tried", endpoint="127.0.0.1:1", kind="host", reason="loopback"),
        a_candidate("", endpoint="192.0.2.9:9", kind="mapped"),
    ]
    bob = a_peer(
        endpoint="198.51.100.11:51820",
        record=a_record(candidates=candidates),
        refused={"signature": 2},
        last="we start the handshake",
    )
    dht = a_backend(name="dht", answered=0.0, stored=0.0, error="dht: gone", failed=NOW - 60)
    put(folder, peers=[bob, a_peer(key=CAROL)], backends=[a_backend(), dht])
    assert main(["why", BOB[:4]]) == 1
    assert capsys.readouterr() == (
        f"""peer: {BOB}
  state: connecting for 1 minute
  endpoint: 198.51.100.11:51820
  latest handshake: never
  record: 12 seconds old, from etcd; expires in 59 minutes, 48 seconds
  last: we start the handshake
  refused: 2 signature
  its nat: endpoint-independent mapping, endpoint-independent filtering: others can punch through
  checks: it answers checks

interface: wg0
  agent: running (its report is 1 second old)
  our record: 1 minute, 40 seconds old, stored by etcd; expires in 58 minutes, 20 seconds; readable by each of 2 peers
  our nat: endpoint-independent mapping, endpoint-independent filtering: others can punch through
  this pair: can be connected directly

backends:
  etcd  answered 3 seconds ago; stored our record 1 minute, 40 seconds ago
  dht   fails for 1 minute: gone

its candidates:
  198.51.100.11:51820  server-reflexive  answered within 900 ms, 8 seconds ago
  [2001:db8::1]:51820  host              no answer, 9 seconds ago
  127.0.0.1:1          host              not tried: loopback
  192.0.2.9:9          mapped            not yet tried

likely reason: 198.51.100.11:51820 answered our check, but no handshake came about: the keys of the two sides differ
next step: on both: wg show; has the other side our key {ALICE} as a peer, and do both have the same preshared key or none?
""",
        "",
    )


@pytest.mark.usefixtures("still")
def test_without_a_record_there_is_no_table_of_candidates(capsys, folder) -> None:
    put(folder, peers=[a_peer(record=None)])
    assert main(["why", BOB]) == 1
    out = capsys.readouterr().out
    assert "candidates" not in out
    assert "  its nat: unknown (no record)\n  checks: unknown (no record)\n" in out
    assert "  this pair: nothing is known against it\n" in out


@pytest.mark.usefixtures("still")
def test_a_connected_peer_exits_with_0(capsys, folder) -> None:
    put(folder, peers=[a_peer(state="connected", handshake=NOW, received=NOW)])
    assert main(["why", BOB]) == 0
    assert capsys.readouterr().out.endswith(f"likely reason: connected; all is well\nnext step: {WATCH}\n")


@pytest.mark.usefixtures("still")
def test_a_verdict_is_told_of_the_pair_and_as_the_reason_and_no_third_time(capsys, folder) -> None:
    put(folder, peers=[a_peer(verdict="it cannot")])
    assert main(["why", BOB]) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if "it cannot" in line] == [
        "  this pair: cannot be connected directly: it cannot",
        "likely reason: this pair cannot be connected directly: it cannot",
    ]


@pytest.mark.usefixtures("still")
def test_json_has_the_reason_by_name(capsys, folder) -> None:
    put(folder, peers=[a_peer(verdict="it cannot")])
    assert main(["why", BOB, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["agent"], found["possible"], found["reason"]) == (1, "running", False, "impossible")
    assert (found["peer"]["key"], found["own"]["key"], found["backends"][0]["name"]) == (BOB, ALICE, "etcd")
    page = (Path(__file__).parents[2] / "docs" / "status.md").read_text()
    told = page.partition("`wgdisco why --json` has ")[2].partition("\n\n")[0]
    assert [key for key in found if f"`{key}`" not in told] == []
    assert [key for key in found["own"] if f"`{key}`" not in told] == []


@pytest.mark.usefixtures("still")
def test_a_peer_of_two_interfaces_has_to_be_chosen(capsys, folder) -> None:
    put(folder, interface="wg0")
    put(folder, interface="wg1", peers=[a_peer(state="connected")])
    assert main(["why", BOB]) == 2
    assert capsys.readouterr().err == (
        f"wgdisco: '{BOB}' is the beginning of {BOB} of wg0, {BOB} of wg1; type more of it, or choose with -i\n"
    )
    assert main(["why", BOB, "-i", "wg1"]) == 0


@pytest.mark.usefixtures("still")
def test_text_of_a_store_moves_no_terminal(capsys, folder) -> None:
    put(folder, peers=[a_peer(last="\x1b[2J")], backends=[a_backend(error="etcd: \x1b[2J", failed=NOW)])
    main(["why", BOB])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.usefixtures("still")
def test_an_agent_that_waits_for_its_interface_says_so(capsys, folder) -> None:
    put(folder, state="waiting", trouble="wg0 is gone", peers=[])
    assert main(["why", BOB]) == 4
    err = capsys.readouterr().err
    assert err.startswith("wgdisco: the agent of wg0 is waiting; it wrote last 1 second ago: wg0 is gone\n")


# ---- the command without an agent


@contextmanager
def interface(tmp_path: Path, monkeypatch) -> Iterator[None]:
    """A real interface wg0 with Alice's key and the peer Bob, and a route to everywhere."""
    route = Route("eth0", ip_address("192.0.2.99"))
    monkeypatch.setattr("wgdisco.device.routes.Routes.lookup", lambda *_: route)
    with box("wg0") as made:
        bob = f"public_key={report_key(BOB)}\nallowed_ip=10.9.0.2/32"
        made.configure("wg0", f"private_key={(b'a' * 32).hex()}\nlisten_port=51820\n{bob}")
        monkeypatch.setattr("wgdisco.device.list_devices", lambda: ["wg0"])
        monkeypatch.setattr("wgdisco.device.open_device", made.device)
        yield


def report_key(text: str) -> str:
    return PublicKey.parse(text).raw.hex()


def say(tmp_path: Path, raw: bytes, *words: str) -> None:
    """Publish for a key of which there is no interface here."""
    path = tmp_path / f"{raw[:1].decode()}.key"
    path.touch(0o600)
    path.write_text(b64encode(raw).decode())
    assert main(["publish", "--private-key-file", str(path), "--to", "key", *words]) == 0


def test_without_an_agent_the_stores_are_asked(capsys, tmp_path, monkeypatch) -> None:
    """From nothing at all to both records, as two people would type it: each time another reason."""
    shelf = tmp_path / "shelf"
    store = ["-b", "folder", "-o", f"path={shelf}"]
    words = ["why", BOB[:6], "-e", "192.0.2.1:51820", *store]
    with interface(tmp_path, monkeypatch):
        assert told(capsys, 1, *words)["reason"] == "stores"
        shelf.mkdir()
        nothing = told(capsys, 1, *words)
        assert (nothing["reason"], nothing["agent"], nothing["next"]) == ("unstored", "none", "wgdisco run -i wg0")
        assert (nothing["peer"]["state"], nothing["peer"].get("endpoint", "")) == ("searching", "")
        assert nothing["backends"][0].get("stored", 0) == 0
        say(tmp_path, b"a" * 32, "-e", "192.0.2.1:51820", *store)
        capsys.readouterr()
        mine = told(capsys, 1, *words)
        assert (mine["reason"], mine["own"]["key"]) == ("unknown", ALICE)
        assert mine["own"]["ends"] - mine["own"]["issued"] == 3600
        assert mine["backends"][0]["stored"] == mine["own"]["issued"]
        say(tmp_path, b"b" * 32, "-e", "192.0.2.7:51820", *store)
        capsys.readouterr()
        both = told(capsys, 1, *words)
        assert both["reason"] == "alone"
        record = both["peer"]["record"]
        assert (both["peer"]["state"], record["backend"], record["ends"] - record["issued"]) == (
            "waiting",
            "folder",
            3600,
        )
        assert record["candidates"] == [{"endpoint": "192.0.2.7:51820", "kind": "mapped"}]
        assert "checks" not in record
        say(tmp_path, b"b" * 32, "-e", "192.0.2.1:51820", *store)  # our own
        capsys.readouterr()
        own = told(capsys, 1, *words)
        assert (own["reason"], own["peer"]["record"]["candidates"][0]["reason"]) == ("skipped", "our own endpoint")


def test_a_live_agent_that_leaves_the_peer_out_is_no_missing_one(capsys, tmp_path, monkeypatch, folder) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    store = ["-b", "folder", "-o", f"path={shelf}"]
    for raw, endpoint in ((b"a" * 32, "192.0.2.1:51820"), (b"b" * 32, "192.0.2.7:51820")):
        say(tmp_path, raw, "-e", endpoint, *store)
    put(folder, peers=[], totals={"peers": 9000})
    capsys.readouterr()
    with interface(tmp_path, monkeypatch):
        found = told(capsys, 1, "why", BOB, "-e", "192.0.2.1:51820", *store)
        assert (found["agent"], found["reason"]) == ("silent", "idle")
        put(folder, process=1)
        found = told(capsys, 1, "why", BOB, "-e", "192.0.2.1:51820", *store)
        assert (found["agent"], found["reason"]) == ("none", "alone")


def test_a_live_session_is_told_from_the_interface(capsys, tmp_path, monkeypatch) -> None:
    """Without any agent and any record: two interfaces that have shaken hands."""
    (tmp_path / "shelf").mkdir()
    with box("wg0", "wg1") as made:
        for name, raw, port, other in (("wg0", b"a" * 32, 51820, BOB), ("wg1", b"b" * 32, 51821, ALICE)):
            made.configure(name, f"private_key={raw.hex()}\nlisten_port={port}\npublic_key={report_key(other)}")
            made.run("ip", "link", "set", name, "up")
        there = f"public_key={report_key(BOB)}\nupdate_only=true\nendpoint=127.0.0.1:51821"
        made.configure("wg0", f"{there}\npersistent_keepalive_interval=25")
        deadline = time.monotonic() + 10
        while "last_handshake_time_sec=0" in made.peers("wg0")[report_key(BOB)] and time.monotonic() < deadline:
            time.sleep(0.01)
        monkeypatch.setattr("wgdisco.device.list_devices", lambda: ["wg0"])
        monkeypatch.setattr("wgdisco.device.open_device", made.device)
        found = told(capsys, 0, "why", BOB, "-e", "192.0.2.1:51820", "-b", "folder", "-o", f"path={tmp_path}/shelf")
    assert (found["reason"], found["peer"]["state"]) == ("connected", "connected")
    assert (found["peer"]["endpoint"], found["peer"]["keepalive"]) == ("127.0.0.1:51821", 25)
    assert (found["peer"]["rx"] > 0, found["peer"]["tx"] > 0) == (True, True)


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        ("reports", "running (its report is 1 second old)"),
        ("silent", "runs, but its report leaves this peer out; all this was looked up just now"),
        ("none", "none runs; all this was looked up just now"),
    ],
)
def test_it_says_from_whom_it_knows(agent: str, text: str) -> None:
    assert f"  agent: {text}" in list(why.lines(case(agent=agent)))


def test_a_beginning_of_several_keys_is_not_enough() -> None:
    keys = [PublicKey.parse(each) for each in (ALICE, BOB, CAROL)]
    alike = [key for key in keys for _ in range(2)]  # as if their keys began alike
    with pytest.raises(UsageError, match="is the beginning of 2 peers of wg0; type more of it"):
        chosen(BOB[:5], alike, "wg0")
    assert chosen(BOB[:4], keys, "wg0") == keys[1]
    with pytest.raises(InvalidKey, match=r"names no peer of wg0; expected a key .* at least 4 characters"):
        chosen(BOB[:3], keys, "wg0")


def test_a_key_that_is_no_peer_is_told_with_the_way_to_add_it(capsys, tmp_path, monkeypatch) -> None:
    with interface(tmp_path, monkeypatch):
        assert main(["why", CAROL]) == 2
    assert capsys.readouterr().err == (
        f"wgdisco: wg0 has no peer {CAROL}; wgdisco never creates one. "
        f"First: wg set wg0 peer {CAROL} allowed-ips ADDRESS/32\n"
    )


def told(capsys, code: int, *words: str) -> dict:
    """What the command says as an object; its text has to say the same at its end."""
    assert main([*words, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert main([*words]) == code
    assert capsys.readouterr().out.endswith(f"\nlikely reason: {found['text']}\nnext step: {found['next']}\n")
    return found


def test_help_loads_no_library() -> None:
    code = "from wgdisco.cli.main import main\ntry:\n    main(['why', '--help'])\nexcept SystemExit:\n    pass"
    assert loaded_by(code) & HEAVY == set()


def test_the_last_two_lines_are_the_reason_and_the_step() -> None:
    """Whatever is known: scripts and people look there."""
    for known, reason in CASES.values():
        assert list(why.lines(known))[-2:] == [f"likely reason: {reason.text}", f"next step: {reason.step}"]
