"""Audiences: who finds which slot, what a store sees, sealing and padding, periods."""

from __future__ import annotations

import copy
import pickle
import random
from base64 import b16encode, b32encode, b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.records import ALICE, BOB, MALLORY, NET, NOW, W, candidate, here, mixed, record, sealed
from wgdisco.audience import PADDED, Audience, Place, Scope, sealed_size, union
from wgdisco.backend import to_text
from wgdisco.errors import RecordRefused, UsageError
from wgdisco.keys import PrivateKey, verify
from wgdisco.record import Kind, encode, sign
from wgdisco.search import slot_of

DAY = 86_400_000  # milliseconds
PAIR = Audience.peers(ALICE, BOB.public)
OPEN = Audience.key(ALICE.public)
AUDIENCES = {"peers": PAIR, "network": NET, "key": OPEN}
everyone = pytest.mark.parametrize("audience", AUDIENCES.values(), ids=list(AUDIENCES))


# ---- who shares what


def test_both_peers_find_the_same_slots_by_their_own_keys() -> None:
    theirs = Audience.peers(BOB, ALICE.public)
    assert theirs.network == PAIR.network
    assert here(theirs) == here(PAIR)
    blob = sealed(place=here(PAIR))
    assert here(theirs).unseal(blob) == here(PAIR).unseal(blob)
    assert theirs.readable(ALICE.public, NOW) == PAIR.readable(ALICE.public, NOW)


def test_the_two_directions_of_a_pair_are_different_slots() -> None:
    assert here(PAIR, ALICE).id != here(PAIR, BOB).id
    assert here(PAIR, ALICE).sealing != here(PAIR, BOB).sealing


def test_a_third_node_computes_another_pair() -> None:
    assert Audience.peers(MALLORY, ALICE.public).network != PAIR.network
    assert Audience.peers(MALLORY, BOB.public).network != PAIR.network


def test_scopes_with_one_secret_have_nothing_in_common() -> None:
    """The type byte separates them: a member cannot pass a pair's record off as the network's (T24)."""
    secret = b"x" * 32
    places = [here(Audience(scope, secret)) for scope in Scope]
    for name in ("network", "public", "id", "offset", "blinding", "sealing"):
        assert len({getattr(place, name) for place in places}) == len(Scope), name


@everyone
def test_places_of_two_subjects_and_two_periods_have_nothing_in_common(audience: Audience) -> None:
    places = [audience.place(key.public, period) for key in (ALICE, BOB) for period in (20777, 20778)]
    for name in ("public", "id", "offset", "blinding", "sealing"):
        assert len({getattr(place, name) for place in places}) == 4, name


@everyone
def test_who_goes_on_asking_asks_everywhere_it_will_have_to(audience: Audience) -> None:
    """For ten minutes around the border of two days: at every moment the places are among those of the beginning."""
    tomorrow = audience.period(ALICE.public, NOW) + 1
    border = DAY * tomorrow + 1000 * audience._offsets[ALICE.public.raw]
    for start in range(border - 1_000_000, border + 1_000_000, 100_000):
        followed = audience.readable(ALICE.public, start, 600_000)
        for now in range(start, start + 600_001, 60_000):
            assert {place.id for place in audience.readable(ALICE.public, now)} <= {place.id for place in followed}


@pytest.mark.parametrize("size", [0, 31, 33])
def test_network_secret_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"this one has {size}; make one: wgdisco genkey"):
        Audience.members(bytes(size))


@everyone
def test_only_the_subject_signs_for_the_slot_that_all_compute(audience: Audience) -> None:
    place = here(audience)
    signer = ALICE.slot_signer(place.blinding)
    assert signer.public == place.public
    assert MALLORY.slot_signer(place.blinding).public != place.public
    assert verify(place.public, b"3:seqi7e1:v1:x", signer.sign(7, b"x"))


# ---- what must not be shown


@everyone
def test_secrets_are_not_shown(audience: Audience) -> None:
    place = here(audience)
    told = f"{audience!r} {audience} {place!r} {place} {slot_of(place)!r}"
    secrets = [audience._secret, place.sealing, place.blinding, str(place.offset).encode()]
    assert not [one for one in secrets if one.hex() in told or repr(one)[2:-1] in told or one.decode("latin1") in told]


@pytest.mark.parametrize("thing", [NET, here(NET)], ids=["audience", "place"])
def test_secrets_are_not_serialised(thing) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="is not serialised"):
            attempt(thing)


def test_a_slot_gives_backends_no_secret() -> None:
    slot = slot_of(here())
    assert (slot.id, slot.text, slot.public) == (here().id, here().text, here().public)
    with pytest.raises(PermissionError):
        slot.sign(1, b"")


# ---- sealing


@given(st.binary(max_size=639))
def test_what_is_sealed_is_unsealed(statement: bytes) -> None:
    assert here().unseal(here().seal(statement)) == statement


@given(st.integers(0, 639))
def test_sizes_of_blobs_are_of_the_set(size: int) -> None:
    blob = here().seal(b"\x80\0" * (size // 2) + b"\0" * (size % 2))
    assert len(blob) in {41 + padded for padded in PADDED}
    assert len(blob) == sealed_size(size) <= 681


@pytest.mark.parametrize("size", [191, 192, 255, 256, 319, 320, 383, 384, 511, 512, 639])
def test_padding_leaves_room_for_its_mark(size: int) -> None:
    assert len(here().seal(bytes(size))) == 41 + min(padded for padded in PADDED if padded > size)
    assert here().unseal(here().seal(bytes(size))) == bytes(size)


def test_statement_of_640_bytes_does_not_fit() -> None:
    with pytest.raises(ValueError, match="at most 639"):
        here().seal(bytes(640))
    assert sealed_size(640) > 681


def test_sealing_twice_gives_different_bytes() -> None:
    assert here().seal(b"statement") != here().seal(b"statement")


@everyone
def test_no_other_place_unseals(audience: Audience) -> None:
    """Another slot, network, subject or period: the store cannot move a blob (T2, T22, T24)."""
    blob = sealed(record(audience=audience), here(audience))
    now = audience.period(ALICE.public, NOW)
    others = [audience.place(ALICE.public, now + 1), audience.place(ALICE.public, now - 1), here(audience, BOB)]
    others += [here(other) for other in AUDIENCES.values() if other is not audience]
    others += [here(Audience.members(b"S" * 32)), here(Audience.peers(MALLORY, ALICE.public))]
    for place in others:
        with pytest.raises(RecordRefused, match="unsealed"):
            place.unseal(blob)


def test_the_slot_is_part_of_what_is_sealed() -> None:
    """The same sealing key with another slot id does not open it."""
    place = here()
    moved = Place(**{name: getattr(place, name) for name in place.__dataclass_fields__} | {"id": bytes(20)})
    with pytest.raises(RecordRefused, match="unsealed"):
        moved.unseal(sealed())


def resealed(padded: bytes) -> bytes:
    """A blob with padding of our choice."""
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

    return b"\x01" + bytes(24) + encrypt(padded, b"\x01" + here().id, bytes(24), here().sealing)


BROKEN = {
    "no mark": bytes(192),
    "another mark": b"a" * 64 + b"\x81" + bytes(127),
    "193 bytes": b"\x80" + bytes(192),
    "128 bytes": b"\x80" + bytes(127),
    "200 bytes": b"\x80" + bytes(199),
    "no byte": b"",
    "one byte": b"\x80",
}


@pytest.mark.parametrize("padded", BROKEN.values(), ids=list(BROKEN))
def test_wrong_padding_is_malformed(padded: bytes) -> None:
    with pytest.raises(RecordRefused, match="malformed: its padding"):
        here().unseal(resealed(padded))


@pytest.mark.parametrize(
    ("size", "reason"), [(0, "malformed"), (40, "malformed"), (41, "unsealed"), (681, "unsealed"), (682, "size")]
)
def test_sizes_of_garbage(size: int, reason: str) -> None:
    with pytest.raises(RecordRefused, match=reason):
        here().unseal(b"\x01" * size)


@given(st.binary(max_size=700))
def test_any_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(RecordRefused):
        here().unseal(blob)


@given(st.binary(max_size=660))
def test_any_bytes_of_version_one_are_refused(rest: bytes) -> None:
    with pytest.raises(RecordRefused):
        here().unseal(b"\x01" + rest)


# ---- periods

moments = st.integers(366 * DAY, 100_000 * DAY)
subjects = st.sampled_from([ALICE.public, BOB.public])


@given(moments, subjects)
def test_a_period_lasts_a_day_and_begins_at_the_subjects_own_hour(now: int, subject) -> None:
    number = NET.period(subject, now)
    assert NET.period(subject, now + DAY) == number + 1
    assert number in (now // DAY, now // DAY - 1)


def test_borders_of_subjects_are_spread_over_the_day() -> None:
    subjects = [PrivateKey(bytes([number]) * 32).public for number in range(200)]
    changed = [sum(NET.period(s, NOW + h * DAY // 24) > NET.period(s, NOW) for s in subjects) for h in range(25)]
    assert changed == sorted(changed)
    assert changed[24] == 200
    assert all(20 < changed[hour + 6] - changed[hour] < 85 for hour in range(19))


@given(moments, st.integers(-W, W), subjects)
def test_reader_and_writer_meet_within_the_tolerated_skew(now: int, skew: int, subject) -> None:
    written = {place.id for place in NET.writable(subject, now, now + 3_600_000)}
    assert written & {place.id for place in NET.readable(subject, now + skew)}


@given(moments, st.integers(0, DAY + W), st.integers(0, DAY), subjects)
def test_a_record_is_found_until_it_has_ended_for_everybody(now: int, age: int, life: int, subject) -> None:
    """Whoever reads while the record is valid for him has one of its slots among those he asks for."""
    if age <= life + W:
        written = {place.id for place in NET.writable(subject, now, now + life)}
        assert written & {place.id for place in NET.readable(subject, now + age)}


@given(moments, subjects)
def test_a_reader_asks_for_one_place_or_two_near_a_border(now: int, subject) -> None:
    numbers = [place.period for place in NET.readable(subject, now)]
    near = NET.period(subject, now - W) != NET.period(subject, now + W)
    assert len(numbers) == len(set(numbers)) == 1 + near
    assert numbers[0] == NET.period(subject, now)


@given(moments, st.integers(-DAY, DAY), subjects)
def test_a_record_is_written_from_now_to_its_end(now: int, life: int, subject) -> None:
    """At most two slots for what lasts at most a day, never a past one."""
    numbers = [place.period for place in NET.writable(subject, now, now + life)]
    first = NET.period(subject, now)
    assert numbers == list(range(first, NET.period(subject, max(now, now + life)) + 1))
    assert len(numbers) <= 2


@pytest.mark.parametrize("now", [0, -1, 365 * DAY - 1])
def test_a_clock_before_1971_is_refused(now: int) -> None:
    with pytest.raises(UsageError, match="before 1971; set the clock first"):
        NET.period(ALICE.public, now)


def test_the_first_moment_of_1971_has_a_period() -> None:
    assert NET.period(ALICE.public, 365 * DAY) in (364, 365)


def test_places_are_cached_and_old_ones_forgotten() -> None:
    audience = Audience.members(b"c" * 32)
    assert audience.place(ALICE.public, 5) is audience.place(ALICE.public, 5)
    for period in range(500):
        audience.place(ALICE.public, period)
    assert len(audience._places[ALICE.public.raw]) <= 3


def test_union_keeps_the_order() -> None:
    first, second = here(NET), here(OPEN)
    assert union([first, second, here(NET)]) == [first, second]


# ---- what the holder of a full dump learns (promise 9)

ADDRESSES = [f"203.0.113.{number}" for number in range(1, 9)] + [f"2001:db8::{number:x}" for number in range(1, 9)]


def spellings(raw: bytes) -> list[bytes]:
    """Raw, hexadecimal, base64 at its three alignments, base32 at its five."""
    found = [raw, raw.hex().encode(), b16encode(raw)]
    for shift in range(3):
        whole = b64encode(bytes(shift) + raw), urlsafe_b64encode(bytes(shift) + raw)
        found += [text[(4 * shift + 2) // 3 : -4] for text in whole]
    for shift in range(5):
        text = b32encode(bytes(shift) + raw)[(8 * shift + 4) // 5 : -8]
        found += [text, text.lower()]
    return [each for each in found if len(each) >= 4]


def dump(audience: Audience) -> bytes:
    """All that a store keeps of Alice over ten days: slots, slot keys, numbers, blobs and their text form."""
    kept = []
    for day in range(10):
        place = here(audience, now=NOW + day * DAY)
        candidates = tuple(candidate(f"[{a}]:51820" if ":" in a else f"{a}:51820", Kind.HOST) for a in ADDRESSES)
        said = record(NOW + day * DAY, audience, candidates=candidates, hints={"instance": b"12345678"})
        blob = sealed(said, place)
        seq = place.offset + said.issued
        signature = ALICE.slot_signer(place.blinding).sign(seq, blob)
        kept += [
            place.id,
            place.text.encode(),
            place.public,
            str(seq).encode(),
            signature,
            blob,
            to_text(blob).encode(),
        ]
    return b"\n".join(kept)


@everyone
def test_no_stored_byte_contains_key_address_or_secret(audience: Audience) -> None:
    known = [ALICE.public.raw, ALICE.public.edwards, BOB.public.raw, audience.network, audience._secret, b"12345678"]
    packed = [candidate(f"[{a}]:1" if ":" in a else f"{a}:1").endpoint.address.packed for a in ADDRESSES]
    stored = dump(audience)
    texts = [text.encode() for text in ADDRESSES]
    # four raw bytes of an IPv4 address turn up by chance once in a million dumps
    assert not [one for raw in known + packed for one in spellings(raw) if one in stored]
    assert not [text for text in texts if text in stored]


def test_the_search_for_spellings_finds_what_is_there() -> None:
    """The test above can fail: each encoding of the key at each alignment is found."""
    raw = ALICE.public.raw
    for shift in range(5):
        for encoded in (b64encode, urlsafe_b64encode, b32encode, b16encode):
            text = b"x" + encoded(bytes(shift) + raw + b"rest of it")
            assert any(one in text for one in spellings(raw))


@pytest.mark.parametrize("scope", ["peers", "network"])
def test_the_public_keys_alone_open_nothing(scope: str) -> None:
    """An outsider with every public key and the whole store."""
    audience = AUDIENCES[scope]
    blob = sealed(record(audience=audience), here(audience))
    guesses = [Audience.key(ALICE.public), Audience.key(BOB.public), Audience.peers(MALLORY, ALICE.public)]
    guesses += [Audience(each, key.public.raw) for each in Scope for key in (ALICE, BOB)]
    for guess in guesses:
        with pytest.raises(RecordRefused, match="unsealed"):
            here(guess).unseal(blob)


def test_the_number_of_candidates_shows_only_as_a_size_of_the_set() -> None:
    sizes = {len(sealed(record(candidates=mixed(number)))) for number in range(17)}
    assert sizes <= {41 + padded for padded in PADDED}
    assert len(sealed(record(candidates=mixed(1)))) == len(sealed(record(candidates=mixed(2))))


def test_slots_of_many_peers_and_days_are_unlinkable() -> None:
    """1000 peers, 10 days: no prefix of four bytes repeats beyond chance, and bits are even (T16)."""
    keys = [PrivateKey(random.Random(number).randbytes(32)).public for number in range(1000)]
    places = [NET.place(key, 20777 + day) for key in keys for day in range(10)]
    for name in ("id", "public"):
        values = [getattr(place, name) for place in places]
        # 10,000 values share about 0.01 pairs of prefixes by chance; with two the chance is below one in ten thousand
        assert len({value[:4] for value in values}) >= len(values) - 1
        # bit 255 of a point is its sign, the bits above the prime's are even enough; each within six deviations
        for bit in range(8 * len(values[0])):
            ones = sum(value[bit // 8] >> (bit % 8) & 1 for value in values)
            assert abs(ones - 5000) < 300, f"bit {bit} of {name}"


def test_numbers_of_one_record_in_two_slots_differ() -> None:
    """One `issued` in several slots must not link them by the number that BEP 44 shows."""
    said = record(lifetime=86400)
    places = [*NET.writable(ALICE.public, said.issued, said.end), here(PAIR), here(OPEN)]
    numbers = [place.offset + said.issued for place in places]
    assert len(set(numbers)) == len(places) == 4
    assert all(abs(one - other) > 1_000_000 for one in numbers for other in numbers if one != other)


def test_one_statement_in_two_slots_shares_no_bytes() -> None:
    statement = sign(encode(record(lifetime=86400)), ALICE)
    first, second = (place.seal(statement) for place in NET.writable(ALICE.public, NOW, NOW + DAY))
    pieces = {first[start : start + 6] for start in range(1, len(first) - 5)}
    assert not pieces & {second[start : start + 6] for start in range(1, len(second) - 5)}
