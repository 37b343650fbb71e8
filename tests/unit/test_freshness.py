"""Order, age and clocks: each rule of the reader at its border, marks, and the publisher's timestamps."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import encode as pack

from tests.unit.records import ALICE, BOB, MALLORY, NET, NOW, M, W, candidate, here, record, sealed, sealed_payload
from wgdisco.audience import Audience
from wgdisco.errors import RecordRefused
from wgdisco.freshness import KEPT, Mark, Marks, read, stamp
from wgdisco.record import encode

YEARS = 3 * 365 * 86_400_000
OTHER = Audience.key(ALICE.public)


def verdict(blob: bytes, marks: Marks | None = None, now: int = NOW, place=None) -> str:
    """`accepted`, or the reason of refusal."""
    try:
        read(blob, place or here(), Marks() if marks is None else marks, now)
    except RecordRefused as refused:
        return refused.reason
    return "accepted"


def marked(marks: Marks) -> list[int]:
    return [mark.issued for mark in marks.all]


# ---- the reader's rules, each at its border


def test_accepted_record_is_returned_whole_and_marked() -> None:
    said, marks = record(hints={"checks": True}), Marks()
    accepted = read(sealed(said), here(), marks, NOW)
    assert (accepted.record, accepted.equivocation) == (said, False)
    assert marks.all == [Mark(NOW, {NET.network: sha256(encode(said)).digest()})]


@pytest.mark.parametrize(("ahead", "expected"), [(W, "accepted"), (W + 1, "future")])
def test_future(ahead: int, expected: str) -> None:
    assert verdict(sealed(record(NOW + ahead))) == expected


@pytest.mark.parametrize(("age", "expected"), [(60_000 + W, "accepted"), (60_000 + W + 1, "expired")])
def test_expired(age: int, expected: str) -> None:
    assert verdict(sealed(record(NOW, lifetime=60)), now=NOW + age) == expected


@pytest.mark.parametrize(
    ("older", "expected"), [(0, "accepted"), (1, "rollback"), (W, "rollback"), (2 * W, "rollback")]
)
def test_rollback(older: int, expected: str) -> None:
    marks = Marks()
    assert verdict(sealed(record(NOW)), marks) == "accepted"
    assert verdict(sealed(record(NOW - older)), marks) == expected


def test_future_record_is_not_marked() -> None:
    """A publisher whose clock is years ahead would otherwise lock himself out (fast-forward, T5)."""
    marks = Marks()
    assert verdict(sealed(record(NOW + YEARS)), marks) == "future"
    assert marks.all == []
    assert verdict(sealed(record(NOW)), marks) == "accepted"


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"\x01" * 682, "size"),
        (b"", "malformed"),
        (b"\x01" * 100, "unsealed"),
        (sealed(signer=MALLORY), "signature"),
        (sealed_payload(b"\x90"), "malformed"),
        (sealed(record(subject=BOB)), "binding"),
        (sealed(record(audience=OTHER)), "binding"),
        (sealed(record(NOW + W + 1)), "future"),
    ],
)
def test_what_is_refused_before_the_mark_leaves_none(blob: bytes, reason: str) -> None:
    marks = Marks()
    assert verdict(blob, marks) == reason
    assert marks.all == []


def broken_body(issued: int) -> bytes:
    fields = [ALICE.public.raw, NET.network, issued, 3600, [[0, b"12345", 5]], [], {}]
    return sealed_payload(pack(fields))


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (sealed(record(NOW, must=("x",))), "unsupported"),
        (broken_body(NOW), "malformed"),
        (sealed(record(NOW - 4_000_000, lifetime=60)), "expired"),
    ],
)
def test_what_is_refused_after_the_mark_cannot_be_bypassed_with_something_older(blob: bytes, reason: str) -> None:
    """Not a second before it: neither a withheld extension nor an expired record."""
    marks, issued = Marks(), NOW - 4_000_000 if reason == "expired" else NOW
    assert verdict(blob, marks) == reason
    assert marked(marks) == [issued]
    assert verdict(sealed(record(issued - 1, lifetime=86400)), marks) == "rollback"
    assert verdict(sealed(record(issued + 1, lifetime=86400)), marks) == "accepted"


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"subject": BOB, "issued": NOW + YEARS}, "binding"),
        ({"issued": NOW + YEARS, "must": ("x",)}, "future"),
        ({"issued": NOW - 5, "must": ("x",)}, "rollback"),
        ({"issued": NOW - 90_000_000, "lifetime": 60}, "rollback"),
        ({"issued": NOW + 1 - 4_000_000, "lifetime": 60, "must": ("x",), "early": True}, "unsupported"),
    ],
)
def test_the_first_reason_counts(fields: dict, reasons: str) -> None:
    marks = Marks()
    if not fields.pop("early", False):
        marks.add(NOW)
    assert verdict(sealed(record(**fields)), marks) == reasons


def test_unsupported_names_the_extension_without_its_control_characters() -> None:
    with pytest.raises(RecordRefused, match=r"it needs '\\x1b\[2J'; a newer wgdisco may know it"):
        read(sealed(record(must=("\x1b[2J",))), here(), Marks(), NOW)


def test_reasons_show_no_address_and_no_whole_key() -> None:
    """What is refused may be logged (T29)."""
    blobs = [sealed(signer=MALLORY), sealed(record(subject=BOB)), sealed(record(NOW + YEARS)), broken_body(NOW)]
    for blob in [*blobs, sealed(record(NOW - 10**8))]:
        with pytest.raises(RecordRefused) as refused:
            read(blob, here(), Marks(), NOW)
        told = str(refused.value)
        assert not [
            one for one in ("192.0.2", str(ALICE.public), str(BOB.public), ALICE.public.raw.hex()) if one in told
        ]


# ---- equivocation


def two_payloads() -> tuple[bytes, bytes]:
    """Two blobs of one time; the payload of the second has the larger digest."""
    said = [record(candidates=(candidate(f"192.0.2.{number}:1"),)) for number in (1, 2)]
    first, second = sorted(said, key=lambda each: sha256(encode(each)).digest())
    return sealed(first), sealed(second)


def test_of_two_records_of_one_time_the_larger_digest_counts_and_alarms_once() -> None:
    smaller, larger = two_payloads()
    marks = Marks()
    assert not read(smaller, here(), marks, NOW).equivocation
    assert read(larger, here(), marks, NOW).equivocation
    assert not read(larger, here(), marks, NOW).equivocation
    assert verdict(smaller, marks) == "equivocation"


def test_the_smaller_digest_is_refused_after_the_larger() -> None:
    smaller, larger = two_payloads()
    marks = Marks()
    assert not read(larger, here(), marks, NOW).equivocation
    assert verdict(smaller, marks) == "equivocation"
    assert not read(larger, here(), marks, NOW).equivocation


def test_all_readers_agree_whatever_they_saw_first() -> None:
    blobs = two_payloads()
    ends = []
    for order in (blobs, blobs[::-1]):
        marks, best = Marks(), None
        for blob in order:
            try:
                best = read(blob, here(), marks, NOW).record
            except RecordRefused as refused:
                assert refused.reason == "equivocation"  # noqa: PT017 - only in one order
        ends.append(best)
    assert ends[0] == ends[1]


def test_one_publish_to_two_audiences_is_no_equivocation() -> None:
    """One `issued` serves all audiences; each has a payload of its own."""
    marks = Marks()
    assert not read(sealed(), here(), marks, NOW).equivocation
    assert not read(sealed(record(audience=OTHER), here(OTHER)), here(OTHER), marks, NOW).equivocation
    assert set(marks.all[0].digests) == {NET.network, OTHER.network}


def test_marks_are_shared_by_the_audiences_of_a_subject() -> None:
    """A store of one audience cannot roll back what was seen through another."""
    marks = Marks()
    assert verdict(sealed(record(NOW)), marks) == "accepted"
    assert verdict(sealed(record(NOW - 1, OTHER), here(OTHER)), marks, place=here(OTHER)) == "rollback"


# ---- the reader's clock


def test_clock_that_steps_back_suspends_marks_and_takes_nothing_away() -> None:
    marks = Marks()
    for issued in (NOW - 2 * W, NOW):
        assert verdict(sealed(record(issued)), marks) == "accepted"
    back = NOW - W - 1
    assert verdict(sealed(record(NOW - 2 * W - 1)), marks, back) == "rollback"
    assert verdict(sealed(record(NOW - 2 * W)), marks, back) == "accepted"
    assert verdict(sealed(record(NOW - 1)), marks, NOW) == "rollback"


def test_clock_that_steps_back_amid_a_quick_succession_keeps_the_floors() -> None:
    """A roaming peer publishes every minute for an hour; then our clock goes back half an hour."""
    marks = Marks()
    for minute in range(60):
        assert verdict(sealed(record(NOW + 60_000 * minute)), marks, NOW + 60_000 * minute) == "accepted"
    back = NOW + 60_000 * 30
    assert verdict(sealed(record(NOW + 60_000 * 34)), marks, back) == "rollback"
    assert verdict(sealed(record(NOW + 60_000 * 35)), marks, back) == "accepted"


# ---- marks


def kept(*issued: int) -> Marks:
    marks = Marks()
    for each in issued:
        marks.add(each)
    return marks


@given(st.lists(st.integers(0, 100), max_size=KEPT), st.integers(-5, 105))
def test_last_is_the_greatest_not_above_the_edge(issued: list[int], edge: int) -> None:
    expected = max((each for each in issued if each <= edge), default=None)
    found = kept(*issued).last(edge)
    assert (None if found is None else found.issued) == expected


def test_adding_again_keeps_the_digests() -> None:
    marks = kept(5)
    marks.add(5).digests[b"n"] = b"d"
    assert marks.add(5).digests == {b"n": b"d"}
    assert marked(marks) == [5]


@given(st.lists(st.integers(NOW, NOW + 100 * W), max_size=200))
def test_at_most_64_are_kept_in_order_and_the_new_one_always(issued: list[int]) -> None:
    marks = Marks()
    for each in issued:
        assert marks.add(each) in marks.all
        assert marked(marks) == sorted(set(marked(marks)))
        assert len(marks.all) <= KEPT == 64


def test_a_full_memory_takes_a_new_mark_in_its_midst() -> None:
    """What is being said now is never what is forgotten."""
    for new in (NOW + 500, NOW + 40_500, NOW - 500, NOW + 63_500):
        marks = kept(*range(NOW, NOW + KEPT * 1000, 1000))
        assert marks.add(new) is marks.last(new)
        assert len(marks.all) == KEPT


def test_quick_succession_loses_at_most_the_skew() -> None:
    """10,000 records a second apart: at any step back of two and a half hours a floor is at most 300 s too low."""
    marks = kept(*range(NOW, NOW + 10_000_000, 1000))
    for back in range(0, 9_000_000, 7_919):
        edge = NOW + 9_999_000 - back
        floor = marks.last(edge)
        assert floor is not None
        assert 0 <= edge - floor.issued <= W + 1000


def test_a_clock_years_ahead_does_not_push_out_the_present() -> None:
    """It published for days; after it is mended there are floors again, at once."""
    ahead = range(NOW + YEARS, NOW + YEARS + 200 * 1_200_000, 1_200_000)
    marks = kept(*range(NOW - 40 * 1_200_000, NOW, 1_200_000), *ahead)
    assert marks.last(ahead[-1]) == Mark(ahead[-1])
    for number in range(100):
        marks.add(NOW + number * 1_200_000)
        assert marks.last(NOW + number * 1_200_000 + W) == Mark(NOW + number * 1_200_000)
    assert [each for each in marked(marks) if each < NOW + YEARS][-32:] == [NOW + i * 1_200_000 for i in range(68, 100)]
    assert marks.last(ahead[-1]) == Mark(ahead[-1])


def test_a_clock_years_behind_does_not_push_out_the_present() -> None:
    marks = kept(*range(NOW - 40 * 1_200_000, NOW, 1_200_000))
    for number in range(200):
        marks.add(NOW - YEARS + number * 1_200_000)
    assert marks.last(NOW) == Mark(NOW - 1_200_000)


@given(st.lists(st.integers(0, 60), max_size=30), st.lists(st.integers(0, 60), max_size=30))
def test_merged_marks_are_those_of_one_who_saw_all(one: list[int], other: list[int]) -> None:
    assert kept(*one).merged(kept(*other)) == kept(*one, *other) == kept(*other).merged(kept(*one))


def test_merging_keeps_the_larger_digest_and_changes_neither() -> None:
    one, other = Marks([Mark(5, {b"n": b"1", b"x": b"1"})]), Marks([Mark(5, {b"n": b"2", b"y": b"2"})])
    merged = Marks([Mark(5, {b"n": b"2", b"x": b"1", b"y": b"2"})])
    assert one.merged(other) == other.merged(one) == merged
    assert (one, other) == (Marks([Mark(5, {b"n": b"1", b"x": b"1"})]), Marks([Mark(5, {b"n": b"2", b"y": b"2"})]))


# ---- the publisher's timestamps


def test_first_timestamp_is_the_time() -> None:
    assert stamp(Marks(), NOW) == NOW


def test_timestamps_within_one_millisecond_follow_each_other() -> None:
    marks = Marks()
    assert [stamp(marks, NOW) for _ in range(200)] == list(range(NOW, NOW + 200))


@pytest.mark.parametrize(("back", "expected"), [(1, NOW + 1), (W - M, NOW + 1), (W - M + 1, NOW - (W - M + 1))])
def test_clock_that_steps_back(back: int, expected: int) -> None:
    """Up to the tolerated skew the order is kept; beyond, the clock is believed and what it said before is suspended."""
    marks = kept(NOW)
    assert stamp(marks, NOW - back) == expected


def test_timestamp_that_is_suspended_is_not_used_again() -> None:
    """The clock was 300 s ahead, is mended, and a publish falls on the very millisecond."""
    marks = Marks()
    used = [stamp(marks, NOW), stamp(marks, NOW + W), stamp(marks, NOW - M)]
    assert len({*used, stamp(marks, NOW), stamp(marks, NOW - M), stamp(marks, NOW)}) == 6


def test_timestamps_after_quick_successions_and_steps_are_never_used_twice() -> None:
    random_number = random.Random(7)
    marks, used, now = Marks(), [], NOW
    for _ in range(KEPT):
        now += random_number.choice([0, 1, 2, M, -M, W - M, M - W, W, -W, -2 * W, 2 * W, 7])
        used.append(stamp(marks, now))
    assert len(set(used)) == len(used)


@given(st.lists(st.sampled_from([0, 1, M, W, 10 * W, YEARS, -1, -M, -W, -YEARS]), max_size=40))
def test_every_timestamp_is_acceptable_to_a_reader_whose_clock_is_as_right(steps: list[int]) -> None:
    marks, now = Marks(), NOW
    for step in steps:
        now = max(NOW - YEARS, now + step)
        issued = stamp(marks, now)
        assert now <= issued <= now + W
        assert verdict(sealed(record(issued)), now=now) == "accepted"


def test_after_a_mended_clock_the_next_publish_is_accepted() -> None:
    """The publisher was three years ahead, and a reader was too; both are mended."""
    ours, theirs = Marks(), Marks()
    for moment in (NOW, NOW + YEARS, NOW + 1000):
        issued = stamp(ours, moment)
        assert verdict(sealed(record(issued)), theirs, moment) == "accepted"
