"""What the agent writes down about a session, and about none."""

from __future__ import annotations

import time
from collections import Counter
from ipaddress import ip_network

import pytest

from tests.attacks.scene import Scene, Tunnel, shelf
from tests.unit.records import ALICE, BOB, MALLORY, NOW, candidate, here, record, sealed
from wgdisco.account import TRIED_OFTEN, Diary, account, blank
from wgdisco.audience import Scope
from wgdisco.backend import Backend
from wgdisco.device import Interface, Peer
from wgdisco.keys import PrivateKey
from wgdisco.record import Kind
from wgdisco.report import MANY, CandidateReport, Counters
from wgdisco.search import Answer, Finding, Search
from wgdisco.session import WANTED, Session
from wgdisco.sources import Behaviour, Found, Nat, Where

PEERS = [ALICE, MALLORY]
SITE = ip_network("10.0.0.1/32")


class Fails(Backend):
    name = "fails"

    async def put(self, slot, blob, lifetime):
        raise ConnectionError("it is down")

    async def get(self, slot):
        return []


class Working:
    """Bob's session with Alice and Mallory, none of whose parts is running."""

    def __init__(self, folder, *backends, peers=tuple(PEERS), seek=None) -> None:
        self.scene = Scene(folder)
        node = self.scene.node(BOB, *(backends or (shelf(),)))
        known = {each.public: Peer(each.public, allowed_ips=(SITE,)) for each in peers}
        self.interface = Interface("wg9", BOB, BOB.public, 51820, 7, known)
        device = Tunnel(BOB, Peer(ALICE.public))
        device.read = lambda: self.interface
        audiences = node.readers(Scope.PEERS, [each.public for each in PEERS])
        self.where = Where([Found(candidate().endpoint, Kind.SERVER_REFLEXIVE, "stun")])
        self.session = Session(
            node, device, self.interface, None, self.gather, audiences, lambda *_: None, lambda _: None, peers=seek
        )
        self.diary = Diary()

    async def gather(self, _thorough) -> Where:
        return self.where

    def report(self, most: int = MANY):
        return account(self.session, self.interface, self.diary, most)

    def tender(self, peer=ALICE):
        return self.session.tenders[peer.public]

    def hear(self, *candidates, **hints) -> None:
        said = record(NOW, subject=ALICE, candidates=candidates, hints=hints)
        place = here(subject=ALICE)
        self.tender().outlook.latest = Finding(said, "folder", place, sealed(said, place, ALICE))


@pytest.fixture
async def make(tmp_path):
    made = []

    def build(*backends, **options) -> Working:
        made.append(Working(tmp_path, *backends, **options))
        return made[-1]

    yield build
    for each in made:
        each.session.close()
        await each.scene.close()


def test_without_a_session_it_says_why_and_what_was_counted_before() -> None:
    diary = Diary(counters=Counters(connects=3))
    report = blank("wg9", diary, "waiting", "no interface")
    assert (report.interface, report.state, report.trouble) == ("wg9", "waiting", "no interface")
    assert (report.since, report.counters.connects, report.peers, report.totals) == (diary.started, 3, [], {})


async def test_before_anything_was_published_there_is_nothing_to_say_of_it(make) -> None:
    report = make().report()
    assert (report.state, report.key, report.port, report.fwmark) == ("running", str(BOB.public), 51820, 7)
    assert (report.issued, report.ends, report.readers, report.candidates) == (0.0, 0.0, "", [])
    assert (report.nat, report.translated) == (("unknown", "unknown"), None)


async def test_what_was_published_is_told_with_its_source_and_readers(make) -> None:
    working = make()
    working.where.nat = Nat(Behaviour.ENDPOINT_INDEPENDENT, Behaviour.ADDRESS_DEPENDENT, translated=True)
    working.where.problems = ["portmap: no router"]
    await working.session.announcer.once()
    report = working.report()
    assert (report.issued, report.ends, report.readers) == (NOW / 1000, NOW / 1000 + 3600, "peers")
    assert (report.nat, report.translated) == (("endpoint-independent", "address-dependent"), True)
    assert report.problems == ["portmap: no router"]
    assert report.candidates == [
        CandidateReport(endpoint=str(candidate().endpoint), kind="server-reflexive", source="stun")
    ]


async def test_a_store_that_failed_is_named_and_has_nothing_of_ours(make) -> None:
    working = make(Fails(), shelf())
    await working.session.announcer.once()
    fails, memory = working.report().backends
    assert (fails.name, fails.error, fails.stored) == ("fails", "fails: it is down", 0.0)
    assert fails.failed
    assert fails.rests
    assert (memory.error, memory.failed, memory.rests, memory.stored) == ("", 0.0, 0.0, NOW / 1000)


async def test_what_a_store_took_last_is_known_after_a_failure(make) -> None:
    working = make()
    await working.session.announcer.once()
    working.report()
    working.session.announcer.publication.outcomes.clear()
    assert working.report().backends[0].stored == NOW / 1000


async def test_the_peers_are_counted_by_state_and_as_many_shown_as_fit(make) -> None:
    working = make()
    working.tender().state = "connected"
    report = working.report(most=1)
    assert report.totals == {"connected": 1, "searching": 1}
    assert [each.key for each in report.peers] == [str(ALICE.public)]


@pytest.mark.parametrize(("fired", "state"), [(TRIED_OFTEN, "connecting"), (TRIED_OFTEN + 1, "waiting")])
async def test_a_peer_that_was_tried_often_is_waited_for(make, fired, state) -> None:
    working = make()
    tender = working.tender()
    tender.state, tender._tried = "connecting", type("Tried", (), {"fired": fired})
    report = working.report()
    assert (report.peers[0].state, report.totals[state]) == (state, 1)


async def test_a_peer_is_told_as_the_interface_knows_it_now(make) -> None:
    working = make()
    there = Peer(ALICE.public, candidate().endpoint, 25, (SITE,), 5.0, 10, 20)
    working.interface = Interface("wg9", BOB, BOB.public, 51820, 7, {ALICE.public: there})
    working.diary.last[str(ALICE.public)] = "connected"
    alice, gone = working.report().peers
    told = (alice.endpoint, alice.keepalive, alice.handshake, alice.rx, alice.tx, alice.last)
    assert told == (str(candidate().endpoint), 25, 5.0, 10, 20, "connected")
    assert (gone.endpoint, gone.handshake, gone.last, gone.record) == ("", 0.0, "", None)


async def test_what_was_refused_is_summed_over_the_stores(make) -> None:
    working = make()
    search = Search([], working.session.node.state, working.scene.clock)
    for name, count in (("one", 2), ("other", 3)):
        search.answers[name] = Answer(name, refused=Counter(signature=count))
    working.session.seeker.searches[ALICE.public] = search
    assert [each.refused for each in working.report().peers] == [{"signature": 5}, {}]


async def test_a_record_is_told_with_what_came_of_its_candidates(make) -> None:
    working = make()
    answered, silent, skipped, fresh = (candidate(f"192.0.2.{number}:1") for number in range(1, 5))
    working.hear(answered, silent, skipped, fresh, checks=True, nat=["a", "b"])
    outlook = working.tender().outlook
    outlook.results = {answered.endpoint: (0.02, 7.0), silent.endpoint: (None, 8.0)}
    outlook.skipped = [(skipped, "no IPv4 route")]
    told = working.report().peers[0].record
    assert (told.issued, told.ends, told.backend) == (NOW / 1000, NOW / 1000 + 3600, "folder")
    assert (told.nat, told.checks) == (("a", "b"), True)
    assert [(each.result, each.reason, each.rtt, each.at) for each in told.candidates] == [
        ("answered", "", 0.02, 7.0),
        ("no answer", "", None, 8.0),
        ("not tried", "no IPv4 route", None, None),
        ("", "", None, None),
    ]


async def test_an_endpoint_that_is_named_twice_is_tried_once_and_told_so(make) -> None:
    """The first of the two is the one that is tried."""
    working = make()
    first, again = candidate(), candidate(kind=Kind.MAPPED)
    working.hear(first, again)
    outlook = working.tender().outlook
    outlook.results = {first.endpoint: (0.02, 7.0)}
    outlook.skipped = [(again, "named twice")]
    told = working.report().peers[0].record.candidates
    assert [(each.kind, each.result, each.reason) for each in told] == [
        ("server-reflexive", "answered", ""),
        ("mapped", "not tried", "named twice"),
    ]


async def test_the_counters_go_on_over_sessions(make) -> None:
    working = make()
    session, diary = working.session, working.diary
    session.announcer.publishes, session.announcer.failures, session.seeker.records = 1, 2, 3
    session.seeker.refused.update(one=2, other=2)
    working.tender().connects, working.tender().guard.moves, session.restarts = 5, 6, 7
    once = Counters(publishes=1, publish_failures=2, records=3, refused=4, connects=5, moves=6, restarts=7)
    assert working.report().counters == once
    assert diary.counters == Counters()
    diary.close(session)
    assert diary.counters == once
    twice = Counters(publishes=2, publish_failures=4, records=6, refused=8, connects=10, moves=12, restarts=14)
    assert working.report().counters == twice


async def test_of_very_many_peers_the_totals_are_told(make) -> None:
    working = make(seek=[PrivateKey(number.to_bytes(32)).public for number in range(1, WANTED + 2)])
    now = time.time()
    peers = {
        each.public: Peer(each.public, handshake=handshake)
        for each, handshake in ((ALICE, now - 100), (BOB, now - 1000), (MALLORY, 0.0))
    }
    working.interface = Interface("wg9", BOB, BOB.public, 51820, 7, peers)
    working.session.fleet.latest[ALICE.public] = None
    working.session.fleet.changed = 3
    report = working.report()
    assert (report.totals, report.peers) == ({"connected": 1, "peers": 3, "records": 1}, [])
    assert report.counters.moves == 3
