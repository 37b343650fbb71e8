"""A stateful model of a publisher, two readers, their clocks, and a store that keeps everything and serves anything.

Clocks go wrong by three years (the publisher's) and by a day (the readers'), processes restart with and without their
state. Every verdict is compared with what the exact rules of SPEC section 5 say, kept here without any limit.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from hashlib import sha256
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.records import ALICE, BOB, NOW, M, W, candidate, record
from wgdisco.audience import Audience, Place
from wgdisco.errors import RecordRefused
from wgdisco.freshness import read
from wgdisco.record import Record, decode_body, decode_head, encode, sign
from wgdisco.state import State

YEARS, DAY = 3 * 365 * 86_400_000, 86_400_000
AUDIENCES = (Audience.members(b"s" * 32), Audience.key(ALICE.public), Audience.peers(ALICE, BOB.public))
EDGES = [0, 1, M - 1, M, W - M, W - M + 1, W - 1, W, W + 1, W + M, 2 * W]
little_steps = st.sampled_from(EDGES + [-edge for edge in EDGES])
publisher_clocks = little_steps | st.integers(-YEARS, YEARS) | st.sampled_from([YEARS, -YEARS, DAY, -DAY])
reader_clocks = little_steps | st.integers(-DAY, DAY)
lifetimes = st.sampled_from([60, 3600, 86400])
RAM = Path("/dev/shm")  # a commit there costs no wait for a disk


class Reader:
    """Its state, its clock, and all it ever saw since it last lost its state."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.skew = folder, 0
        self.state = State.open(BOB.public, folder)
        self.seen: dict[int, dict[bytes, bytes]] = defaultdict(dict)

    def restart(self, *, lose: bool) -> None:
        self.state.close()
        if lose:
            shutil.rmtree(self.folder)
            self.seen.clear()
        self.state = State.open(BOB.public, self.folder)

    def judge(self, blob: bytes, place: Place, now: int) -> str:
        marks = self.state.marks(ALICE.public)
        try:
            accepted = read(blob, place, marks, now)
        except RecordRefused as refused:
            return refused.reason
        else:
            return "alarm" if accepted.equivocation else "accepted"
        finally:
            self.state.remember(ALICE.public, marks)

    def expected(self, said: Record, payload: bytes, home: Place, place: Place, now: int) -> str:
        """The rules of SPEC section 5 with an unlimited memory."""
        if home.id != place.id:
            return "unsealed"
        if said.issued > now + W:
            return "future"
        if any(said.issued < issued <= now + W for issued in self.seen):
            return "rollback"
        digest, known = sha256(payload).digest(), self.seen[said.issued].get(said.network)
        if known is not None and known > digest:
            return "equivocation"
        self.seen[said.issued][said.network] = digest
        if said.must:
            return "unsupported"
        if now > said.end + W:
            return "expired"
        return "accepted" if known in (None, digest) else "alarm"


class House(RuleBasedStateMachine):
    """The machine: rules are what can happen, the asserts are the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=RAM if RAM.is_dir() else None))
        self.time, self.skew, self.forgot, self.ports = NOW, 0, False, 0
        self.state = State.open(ALICE.public, self.folder / "publisher")
        self.stamped: set[int] = set()
        self.readers = [Reader(self.folder / f"reader{number}") for number in range(2)]
        self.store: list[tuple[bytes, Place, Record, bytes]] = []

    def teardown(self) -> None:
        for each in (self, *self.readers):
            each.state.close()
        shutil.rmtree(self.folder)

    # ---- what can happen

    @rule(step=st.sampled_from([0, 1, M, 60_000, W, 1_200_000, DAY]) | st.integers(0, 2 * DAY))
    def time_passes(self, step: int) -> None:
        self.time += step

    @rule(skew=publisher_clocks)
    def publishers_clock_goes_wrong(self, skew: int) -> None:
        self.skew = skew

    @rule(skew=reader_clocks, number=st.integers(0, 1))
    def readers_clock_goes_wrong(self, skew: int, number: int) -> None:
        self.readers[number].skew = skew

    @rule(lifetime=lifetimes, must=st.sampled_from([(), (), (), ("extension",)]))
    def publish(self, lifetime: int, must: tuple[str, ...]) -> None:
        self._publish(lifetime, must)

    def _publish(self, lifetime: int = 3600, must: tuple[str, ...] = ()) -> int:
        now, before = self.time + self.skew, set(self.stamped)
        issued = self.state.stamp(now)
        assert issued not in before, "a timestamp was used twice"
        assert now <= issued <= now + W, "readers with the same clock refuse it"
        assert all(issued > older for older in before if older <= now + W - M), "not above what was said before"
        self.stamped.add(issued)
        self.ports = self.ports % 65535 + 1
        for audience in AUDIENCES:
            self._store(audience, issued, lifetime, must, now)
        return issued

    def _store(self, audience: Audience, issued: int, lifetime: int, must: tuple[str, ...], now: int) -> None:
        candidates = (candidate(f"192.0.2.1:{self.ports}"),)
        said = record(issued, audience, lifetime=lifetime, must=must, candidates=candidates)
        statement = sign(encode(said), ALICE)
        end = max(said.end, self.state.latest_end(audience.network))
        self.state.keep_published(audience.network, statement, issued, said.end)
        places = audience.writable(ALICE.public, now, end)
        assert len(places) <= 3, "a clock years ahead asks for a slot for every day of them"
        if not self.forgot:
            self._nothing_older_outlives(said, {place.id for place in places}, now)
        self.store += [(place.seal(statement), place, said, encode(said)) for place in places]

    def _nothing_older_outlives(self, said: Record, written: set[bytes], now: int) -> None:
        """No older record is alone in a slot that readers have still to ask for while it is valid."""
        for _, place, older, _ in self.store:
            if older.network == said.network and older.issued < said.issued and older.end >= now:
                assert place.id in written or self._past(place, now), "an older record outlives the newer one"

    def _past(self, place: Place, now: int) -> bool:
        audience = next(each for each in AUDIENCES if each.network == place.network)
        return place.period < audience.period(ALICE.public, now)

    @rule()
    def publisher_restarts(self) -> None:
        self.state.close()
        self.state = State.open(ALICE.public, self.folder / "publisher")

    @rule()
    def publisher_loses_its_state(self) -> None:
        self.state.close()
        shutil.rmtree(self.folder / "publisher")
        self.state = State.open(ALICE.public, self.folder / "publisher")
        self.stamped.clear()
        self.forgot = True

    @rule(number=st.integers(0, 1), lose=st.sampled_from([False, False, True]))
    def reader_restarts(self, number: int, lose: bool) -> None:
        self.readers[number].restart(lose=lose)

    @precondition(lambda self: self.store)
    @rule(data=st.data(), number=st.integers(0, 1))
    def store_serves_anything(self, data: st.DataObject, number: int) -> None:
        """Any blob it ever had, in whatever slot it likes."""
        blob, home, said, payload = data.draw(st.sampled_from(self.store))
        place = home if data.draw(st.integers(0, 3)) else data.draw(st.sampled_from(self.store))[1]
        self._judge(self.readers[number], blob, home, said, payload, place)

    @precondition(lambda self: self.store)
    @rule(number=st.integers(0, 1), data=st.data())
    def reader_asks_its_slots(self, number: int, data: st.DataObject) -> None:
        """All that lies in the slots of its own clock, in any order; the greatest wins."""
        reader = self.readers[number]
        now = self.time + reader.skew
        asked = {place.id for audience in AUDIENCES for place in audience.readable(ALICE.public, now)}
        found = [each for each in self.store if each[1].id in asked][-8:]
        accepted = []
        for blob, home, said, payload in data.draw(st.permutations(found)):
            if self._judge(reader, blob, home, said, payload, home) in ("accepted", "alarm"):
                accepted.append(said.issued)
        assert accepted == sorted(accepted), "went back within one answer"

    def _judge(self, reader: Reader, blob: bytes, home: Place, said: Record, payload: bytes, place: Place) -> str:
        now = self.time + reader.skew
        expected = reader.expected(said, payload, home, place, now)
        verdict = reader.judge(blob, place, now)
        assert verdict == expected
        return verdict

    @rule()
    def clocks_are_mended(self) -> None:
        """The next publish is accepted by everybody; at worst the one a second later."""
        self.skew = 0
        for reader in self.readers:
            reader.skew = 0
        if self.forgot:
            return
        if not all(self._all_accept(self._publish())):
            self.time += M
            assert all(self._all_accept(self._publish())), "clocks are right, and the record is refused"

    def _all_accept(self, issued: int) -> list[bool]:
        newest = [each for each in self.store if each[2].issued == issued]
        readable = {place.id for audience in AUDIENCES for place in audience.readable(ALICE.public, self.time)}
        return [
            self._judge(reader, *each, each[1]) == "accepted"
            for reader in self.readers
            for each in newest
            if each[1].id in readable
        ]

    # ---- what is always so

    @invariant()
    def the_disk_is_fine(self) -> None:
        assert [problem for each in (self, *self.readers) for problem in each.state.problems] == []

    @invariant()
    def what_was_said_last_is_remembered(self) -> None:
        if self.stamped and self.store:
            network = self.store[-1][1].network
            known = self.state.published(network)
            assert known is not None
            assert decode_body(decode_head(known.statement[64:]), ALICE.public) == self.store[-1][2]


FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
House.TestCase.settings = settings(max_examples=1000 if FUZZ else 60, stateful_step_count=60 if FUZZ else 30)
TestHouse = House.TestCase
