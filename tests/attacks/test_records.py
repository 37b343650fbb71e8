"""Attacks on signed records, named after The Update Framework's list, and those of our own: what a store can serve.

Here the store is a list of bytes and the reader is the core. What takes a server (slow retrieval, lying backends,
floods) is shown where discovery is tested.
"""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tests.unit.records import ALICE, BOB, MALLORY, NET, NOW, W, candidate, here, mixed, record, sealed
from wgdisco.audience import Audience, Scope
from wgdisco.errors import RecordRefused
from wgdisco.freshness import Marks, read, stamp
from wgdisco.keys import PrivateKey, verify
from wgdisco.record import encode, sign
from wgdisco.state import State

DAY, YEARS = 86_400_000, 3 * 365 * 86_400_000
PAIR = Audience.peers(BOB, ALICE.public)
OPEN = Audience.key(ALICE.public)
AUDIENCES = {"peers": PAIR, "network": NET, "key": OPEN}
everyone = pytest.mark.parametrize("audience", AUDIENCES.values(), ids=list(AUDIENCES))


def verdict(blob: bytes, marks: Marks | None = None, now: int = NOW, place=None) -> str:
    try:
        read(blob, place or here(), Marks() if marks is None else marks, now)
    except RecordRefused as refused:
        return refused.reason
    return "accepted"


@pytest.fixture
def state(tmp_path):
    one = State.open(BOB.public, tmp_path)
    yield one
    one.close()


# ---- arbitrary content: nothing that the subject did not sign


def flips(data: bytes, number: int, seed: int):
    """Copies of the data, each with a bit or a byte changed, cut, or made longer."""
    chance = random.Random(seed)
    for _ in range(number):
        changed = bytearray(data)
        kind = chance.random()
        if kind < 0.7:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        elif kind < 0.8:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        elif kind < 0.9:
            del changed[chance.randrange(len(changed)) :]
        else:
            changed += chance.randbytes(chance.randrange(1, 30))
        yield bytes(changed)


@everyone
def test_arbitrary_every_bit_of_a_blob(audience: Audience) -> None:
    blob, place = sealed(record(audience=audience), here(audience)), here(audience)
    for bit in range(8 * len(blob)):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        assert verdict(bytes(changed), place=place) in ("unsealed", "malformed")


def test_arbitrary_ten_thousand_changed_blobs() -> None:
    blob = sealed(record(candidates=mixed(3)))
    assert {verdict(changed) for changed in flips(blob, 10_000, 1) if changed != blob} <= {
        "unsealed",
        "malformed",
        "size",
    }


def test_arbitrary_ten_thousand_changed_statements_of_a_member() -> None:
    """Whoever may read knows the sealing key and seals what he likes: the signature is what holds."""
    statement = sign(encode(record(candidates=mixed(3))), ALICE)
    reasons = {verdict(here().seal(changed)) for changed in flips(statement, 10_000, 2) if changed != statement}
    assert reasons == {"signature", "malformed"}
    marks = Marks()
    for changed in flips(statement, 500, 3):
        if changed != statement:
            verdict(here().seal(changed), marks)
    assert marks.all == []


@everyone
def test_arbitrary_forged_by_another_member(audience: Audience) -> None:
    said = record(audience=audience, candidates=(candidate("203.0.113.66:53"),))
    for forger in (MALLORY, BOB):
        blob = sealed(said, here(audience), forger)
        assert verdict(blob, place=here(audience)) == "signature"


def test_arbitrary_key_compromise_impersonation() -> None:
    """Who stole Bob's key reads what Bob reads; he cannot speak to Bob as Alice (T24)."""
    stolen = PrivateKey(b"b" * 32)
    place = here(Audience.peers(stolen, ALICE.public))
    blob = place.seal(sign(encode(record(audience=PAIR)), stolen))
    assert verdict(blob, place=here(PAIR)) == "signature"


def test_arbitrary_reflection_of_our_own_record() -> None:
    """Bob's own record, put back into Alice's slot by the store, or sealed anew by Alice."""
    own = record(audience=PAIR, subject=BOB)
    assert verdict(sealed(own, here(PAIR, BOB), BOB), place=here(PAIR)) == "unsealed"
    assert verdict(sealed(own, here(PAIR), BOB), place=here(PAIR)) == "signature"


def test_arbitrary_wrong_subject_in_a_right_signature() -> None:
    """Alice cannot vouch for where Bob is, not even in her own slot (T2)."""
    assert verdict(sealed(record(subject=BOB))) == "binding"


def test_arbitrary_signature_of_another_kind() -> None:
    """What Alice signed under another domain, or for a slot, is no record (T23)."""
    payload = encode(record())
    for domain in ("wgdisco record v2", "wgdisco revoke v1", "wgdisco "):
        assert verdict(here().seal(ALICE.sign(domain, payload) + payload)) == "signature"
    slot_signature = ALICE.slot_signer(here().blinding).sign(5, payload)
    assert verdict(here().seal(slot_signature + payload)) == "signature"


def test_arbitrary_a_record_signature_signs_no_slot() -> None:
    """And the other way round: no statement of Alice puts anything into a store that verifies."""
    place, payload = here(), b"3:seqi1e1:v1:x"
    signature = ALICE.sign("wgdisco record v1", payload)
    assert not verify(place.public, payload, signature)
    assert not verify(ALICE.public.edwards, payload, signature)


# ---- replays: right bytes in the wrong place


@everyone
def test_replay_into_every_other_slot(audience: Audience) -> None:
    """Another period, another subject, another audience: as a store, and as a member who seals anew (T22)."""
    said = record(audience=audience)
    blob, statement = sealed(said, here(audience)), sign(encode(said), ALICE)
    for other in AUDIENCES.values():
        for subject in (ALICE, BOB):
            for day in (-1, 0, 1):
                place = other.place(subject.public, other.period(subject.public, NOW) + day)
                if place.id == here(audience).id:
                    continue
                assert verdict(blob, place=place) == "unsealed"
                if subject is BOB:
                    assert verdict(place.seal(statement), place=place) == "signature"
                elif other is not audience:
                    assert verdict(place.seal(statement), place=place) == "binding"


def test_replay_between_scopes_that_share_a_secret() -> None:
    one, other = Audience(Scope.NETWORK, b"x" * 32), Audience(Scope.PEERS, b"x" * 32)
    statement = sign(encode(record(audience=one)), ALICE)
    assert verdict(here(other).seal(statement), place=here(other)) == "binding"


def test_replay_in_another_period_by_a_member_changes_nothing() -> None:
    """He may carry a statement over to the next slot: it is the same statement, with the same end."""
    place = NET.place(ALICE.public, NET.period(ALICE.public, NOW) + 1)
    blob = place.seal(sign(encode(record(NOW, lifetime=60)), ALICE))
    assert verdict(blob, place=place) == "accepted"
    assert verdict(blob, place=place, now=NOW + 60_000 + W + 1) == "expired"


# ---- rollback


def test_rollback_of_every_older_record() -> None:
    blobs = [sealed(record(NOW + number * 1000, lifetime=86400)) for number in range(20)]
    marks = Marks()
    assert verdict(blobs[-1], marks) == "accepted"
    assert {verdict(blob, marks) for blob in blobs[:-1]} == {"rollback"}


def test_rollback_after_a_restart(state, tmp_path) -> None:
    """The floor is on disk."""
    marks = state.marks(ALICE.public)
    assert verdict(sealed(record(NOW)), marks) == "accepted"
    state.remember(ALICE.public, marks)
    state.close()
    again = State.open(BOB.public, tmp_path)
    assert verdict(sealed(record(NOW - 1)), again.marks(ALICE.public)) == "rollback"
    again.close()


def test_rollback_through_another_audience() -> None:
    marks = Marks()
    assert verdict(sealed(record(NOW, PAIR), here(PAIR)), marks, place=here(PAIR)) == "accepted"
    for audience in (NET, OPEN):
        assert verdict(sealed(record(NOW - 1, audience), here(audience)), marks, place=here(audience)) == "rollback"


def test_rollback_past_a_withheld_extension() -> None:
    """Alice says something that we are too old to understand: what she said before is over all the same."""
    marks = Marks()
    assert verdict(sealed(record(NOW, must=("relay",))), marks) == "unsupported"
    assert verdict(sealed(record(NOW - 1)), marks) == "rollback"


def test_rollback_past_a_farewell() -> None:
    """No candidates: she is leaving; her last address does not come back."""
    marks = Marks()
    assert read(sealed(record(NOW, candidates=())), here(), marks, NOW).record.candidates == ()
    assert verdict(sealed(record(NOW - 1)), marks) == "rollback"


# ---- indefinite freeze


def test_freeze_ends_with_the_lifetime_of_the_record() -> None:
    """A store that serves version n for ever: it is `expired`, and so shows as stale."""
    blob, marks = sealed(record(NOW, lifetime=3600)), Marks()
    assert verdict(blob, marks, NOW + 3_600_000 + W) == "accepted"
    for later in (1, DAY, YEARS):
        assert verdict(blob, marks, NOW + 3_600_000 + W + later) == "expired"


def test_freeze_is_no_longer_than_a_day_whatever_was_signed() -> None:
    with pytest.raises(ValueError, match="expected 60 to 86400"):
        encode(record(lifetime=86401))


# ---- fast-forward


def test_fast_forward_by_a_clock_years_ahead(state) -> None:
    """The publisher's clock jumped, and the store keeps what he signed: neither he nor his readers are locked out."""
    ahead = record(state.stamp(NOW + YEARS), lifetime=86400)
    marks = Marks()
    assert verdict(sealed(ahead), marks) == "future"
    mended = state.stamp(NOW)
    assert mended == NOW
    assert verdict(sealed(record(mended)), marks) == "accepted"
    assert verdict(sealed(ahead), marks) == "future"


def test_fast_forward_of_a_reader_whose_clock_was_wrong_too() -> None:
    marks = Marks()
    assert verdict(sealed(record(NOW + YEARS)), marks, NOW + YEARS) == "accepted"
    assert verdict(sealed(record(NOW)), marks, NOW) == "accepted"
    assert verdict(sealed(record(NOW - 1)), marks, NOW) == "rollback"


def test_fast_forward_up_to_the_skew_delays_by_the_skew_at_most() -> None:
    """The most that a wrong clock can do: its successors follow in order."""
    ours, theirs = Marks(), Marks()
    first = stamp(ours, NOW + W)
    assert verdict(sealed(record(first)), theirs) == "accepted"
    after = stamp(ours, NOW + 1_000)
    assert after == first + 1
    assert verdict(sealed(record(after)), theirs, NOW + 1_000) == "accepted"


# ---- endless data, and what costs us


@pytest.mark.parametrize("size", [682, 10_000, 64 << 20])
def test_endless_data_is_refused_by_its_size(size: int) -> None:
    assert verdict(bytes(size)) == "size"


def test_endless_garbage_costs_no_signature(monkeypatch) -> None:
    """Cheap checks come first: what a stranger floods a slot with is refused before anything is verified or decoded."""
    from wgdisco import freshness

    monkeypatch.setattr(freshness, "verified", lambda *_: pytest.fail("verified what was not sealed for us"))
    garbage = [b"\x01" + random.Random(number).randbytes(600) for number in range(1000)]
    assert {verdict(blob) for blob in garbage} == {"unsealed"}


def test_endless_marks_do_not_grow() -> None:
    marks = Marks()
    for number in range(500):
        assert verdict(sealed(record(NOW + number * 400_000)), marks, NOW + number * 400_000) == "accepted"
    assert len(marks.all) == 64


# ---- mix and match


def test_mix_and_match_of_two_blobs() -> None:
    """Parts of two values, as a store of several strings might give them: nothing in between is accepted."""
    one, other = sealed(record(NOW, candidates=mixed(3))), sealed(record(NOW + 1, candidates=mixed(3)))
    assert len(one) == len(other)
    mixtures = {one[:cut] + other[cut:] for cut in range(len(one))} - {one, other}
    assert {verdict(mixture) for mixture in mixtures} == {"unsealed"}


def test_mix_and_match_of_two_statements() -> None:
    """As a member who can seal: the signature of one with the payload of the other."""
    one, other = sign(encode(record(NOW)), ALICE), sign(encode(record(NOW + 1)), ALICE)
    assert verdict(here().seal(one[:64] + other[64:])) == "signature"
    assert verdict(here().seal(one[:32] + other[32:])) == "signature"


def test_mix_and_match_candidates_are_never_merged() -> None:
    """A record is one whole candidate set."""
    marks = Marks()
    first = read(sealed(record(NOW, candidates=(candidate("192.0.2.1:1"),))), here(), marks, NOW)
    second = read(sealed(record(NOW + 1, candidates=(candidate("192.0.2.2:2"),))), here(), marks, NOW)
    assert [str(each.endpoint) for each in second.record.candidates] == ["192.0.2.2:2"]
    assert [str(each.endpoint) for each in first.record.candidates] == ["192.0.2.1:1"]


# ---- key compromise and clones


def test_equivocation_raises_the_alarm_once_and_all_readers_agree() -> None:
    """Two hosts with one key that say different things at the same time (T20, T33)."""
    ours, clones = (sealed(record(candidates=(candidate(f"192.0.2.{number}:1"),))) for number in (1, 2))
    used = []
    for order in ([ours, clones, ours, clones], [clones, ours, clones, ours]):
        marks, alarms, last = Marks(), 0, None
        for blob in order:
            try:
                accepted = read(blob, here(), marks, NOW)
            except RecordRefused:
                alarms += last is None
                continue
            alarms += accepted.equivocation
            last = accepted.record
        used.append(last)
        assert alarms <= 1
    assert used[0] == used[1]


def test_a_leaked_slot_scalar_is_the_key() -> None:
    """Why no scalar ever leaves the signer: readers know the blinding and can take it away again (SPEC section 1)."""
    from nacl import bindings as sodium

    place = here(OPEN)
    leaked = ALICE.slot_signer(place.blinding)._scalar
    inverse = sodium.crypto_core_ed25519_scalar_invert(place.blinding)
    assert sodium.crypto_core_ed25519_scalar_mul(leaked, inverse) == ALICE._scalar
    assert [name for name in dir(ALICE.slot_signer(place.blinding)) if "scalar" in name] == ["_scalar"]


# ---- wrong clocks of the publisher: nothing it says is used twice or out of order


def test_timestamps_of_a_clock_that_jumps_every_time_it_boots(state) -> None:
    """A board without a battery: each boot begins at the same moment of the past, then the network sets the clock."""
    given = []
    for boot in range(30):
        given += [state.stamp(NOW - YEARS), state.stamp(NOW - YEARS + 5)]
        given += [state.stamp(NOW + boot * 60_000)]
    assert len(set(given)) == len(given)
    right = given[2::3]
    assert all(one < other for one, other in pairwise(right))
