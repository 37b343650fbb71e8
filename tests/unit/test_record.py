"""The record and its statement: a strict decoder from which nothing but RecordRefused escapes."""

from __future__ import annotations

import json
import math
import resource
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import encode as pack

from tests.unit.records import ALICE, BOB, NOW, candidate, mixed, record
from wgdisco.endpoint import Endpoint
from wgdisco.errors import RecordRefused
from wgdisco.record import Candidate, Kind, Record, decode_body, decode_head, encode, sign, verified

SUBJECT = ALICE.public


def payload(**changed: bytes) -> bytes:
    """The seven elements, some of them replaced by other MessagePack."""
    fields = {
        "subject": pack(SUBJECT.raw),
        "network": pack(b"n" * 16),
        "issued": pack(NOW),
        "lifetime": pack(3600),
        "candidates": pack([]),
        "must": pack([]),
        "hints": pack({}),
    } | changed
    return bytes([0x90 + len(fields)]) + b"".join(fields.values())


def decoded(data: bytes) -> Record:
    return decode_body(decode_head(data), SUBJECT)


def reason(data: bytes) -> str:
    with pytest.raises(RecordRefused) as refused:
        decoded(data)
    return refused.value.reason


# ---- round trips

addresses = st.ip_addresses()
endpoints = st.builds(Endpoint, addresses, st.integers(1, 65535))
candidates = st.builds(Candidate, st.sampled_from(Kind), endpoints)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
records = st.builds(
    Record,
    subject=st.just(SUBJECT),
    network=st.binary(min_size=16, max_size=16),
    issued=st.integers(0, 2**64 - 1),
    lifetime=st.integers(60, 86400),
    candidates=st.lists(candidates, max_size=16).map(tuple),
    must=st.lists(st.text(max_size=9), max_size=3).map(tuple),
    hints=st.dictionaries(st.text(max_size=9), plain, max_size=4),
)


@given(records)
def test_what_is_encoded_is_decoded(said: Record) -> None:
    assert decoded(encode(said)) == said


@given(records)
def test_a_payload_is_plain_messagepack_of_seven_elements(said: Record) -> None:
    fields = msgspec.msgpack.decode(encode(said))
    assert fields[:4] == [SUBJECT.raw, said.network, said.issued, said.lifetime]
    assert fields[4] == [[each.kind, each.endpoint.address.packed, each.endpoint.port] for each in said.candidates]
    assert fields[5:] == [list(said.must), said.hints]


@pytest.mark.parametrize("lifetime", [59, 0, -1, 86401])
def test_lifetime_out_of_range_is_not_encoded(lifetime: int) -> None:
    with pytest.raises(ValueError, match="expected 60 to 86400"):
        encode(record(lifetime=lifetime))


def test_seventeen_candidates_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="17 candidates: expected at most 16"):
        encode(record(candidates=mixed(17)))


def test_end_is_in_milliseconds() -> None:
    assert record(issued=NOW, lifetime=60).end == NOW + 60_000


# ---- the strict decoder

ODD = {
    "issued is 5.0": payload(issued=pack(5.0)),
    "issued is a single-precision float": payload(issued=b"\xca" + struct.pack(">f", 5.0)),
    "issued is true": payload(issued=pack(True)),
    "issued is nil": payload(issued=pack(None)),
    "issued is negative": payload(issued=pack(-1)),
    "issued is not a number": payload(issued=pack(math.nan)),
    "lifetime is 3600.0": payload(lifetime=pack(3600.0)),
    "lifetime is 59": payload(lifetime=pack(59)),
    "lifetime is 86401": payload(lifetime=pack(86401)),
    "subject is text": payload(subject=pack("a" * 32)),
    "subject has 31 bytes": payload(subject=pack(b"a" * 31)),
    "subject has 33 bytes": payload(subject=pack(b"a" * 33)),
    "network is text": payload(network=pack("n" * 16)),
    "network has 15 bytes": payload(network=pack(b"n" * 15)),
    "network has 17 bytes": payload(network=pack(b"n" * 17)),
    "network is an extension type": payload(network=b"\xd8\x05" + b"n" * 16),
    "must is text": payload(must=pack("x")),
    "must holds bytes": payload(must=pack([b"x"])),
    "must is a map": payload(must=pack({"x": 1})),
    "must is not UTF-8": payload(must=b"\x91\xa1\xff"),
    "must claims four billion": payload(must=b"\xdd\xff\xff\xff\xff"),
    "a port is 5.0": payload(candidates=pack([[0, b"\1\2\3\4", 5.0]])),
    "a port is 0": payload(candidates=pack([[0, b"\1\2\3\4", 0]])),
    "a port is 65536": payload(candidates=pack([[0, b"\1\2\3\4", 65536]])),
    "a port is negative": payload(candidates=pack([[0, b"\1\2\3\4", -1]])),
    "a kind is negative": payload(candidates=pack([[-1, b"\1\2\3\4", 5]])),
    "a kind is text": payload(candidates=pack([["host", b"\1\2\3\4", 5]])),
    "an address has five bytes": payload(candidates=pack([[0, b"\1\2\3\4\5", 5]])),
    "an address is empty": payload(candidates=pack([[0, b"", 5]])),
    "an address is text": payload(candidates=pack([[0, "abcd", 5]])),
    "a candidate has two elements": payload(candidates=pack([[0, b"\1\2\3\4"]])),
    "a candidate has four elements": payload(candidates=pack([[0, b"\1\2\3\4", 5, 6]])),
    "seventeen of an unknown kind": payload(candidates=pack([[9, b"", 0]] * 17)),
    "candidates claim four billion": payload(candidates=b"\xdd\xff\xff\xff\xff"),
    "candidates are nil": payload(candidates=pack(None)),
    "candidates nest 5,000 deep": payload(candidates=b"\x91" * 5000 + b"\x01"),
    "hints are an array": payload(hints=pack([])),
    "a hint's name is a number": payload(hints=pack({1: 2})),
    "a hint's name is not UTF-8": payload(hints=b"\x81\xa1\xff\x01"),
    "a hint is not UTF-8": payload(hints=b"\x81\xa1a\xa1\xff"),
    "a hint has a map as a key": payload(hints=b"\x81\xa1a\x81\x81\x01\x02\x03"),
    "a hint has a map within a list as a key": payload(hints=b"\x81\xa1a\x81\x91\x80\x03"),
    "a hint is a byte that MessagePack never uses": payload(hints=b"\x81\xa1a\xc1"),
    "a hint is a time out of range": payload(hints=b"\x81\xa1a\xc7\x0c\xff\0\0\0\0\x7f" + b"\xff" * 7),
    "a hint claims four billion": payload(hints=b"\x81\xa1a\xdf\xff\xff\xff\xff"),
    "hints nest 5,000 lists deep": payload(hints=b"\x81\xa1a" + b"\x91" * 5000 + b"\x01"),
    "hints nest 5,000 maps deep": payload(hints=b"\x81\xa1a" * 5000 + b"\x01"),
    "hints nest 5,000 keys deep": payload(hints=b"\x81\xa1a" + b"\x81" * 5000 + b"\x01"),
    "six elements": bytes([0x96]) + payload()[1:-1],
    "no elements": b"\x90",
    "a map": bytes([0x87]) + payload()[1:],
    "nothing": b"",
    "one byte too many": payload() + b"\0",
    "one byte too few": payload()[:-1],
    "an eighth element that is broken": payload(eighth=b"\xc1"),
    "an eighth element that nests 5,000 deep": payload(eighth=b"\x91" * 5000 + b"\x01"),
}


@pytest.mark.parametrize("data", ODD.values(), ids=list(ODD))
def test_odd_payload_is_malformed(data: bytes) -> None:
    assert reason(data) == "malformed"


def test_claimed_lengths_allocate_nothing() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for field in ("candidates", "must", "hints", "subject"):
        for header in (b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"):
            assert reason(payload(**{field: header + b"\x0f\xff\xff\xff" + b"\x01" * 300})) == "malformed"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # kilobytes


ALLOWED = {
    "an eighth element": payload(eighth=pack({"a": [1]})),
    "a header of another size": b"\xdd\0\0\0\7" + payload()[1:],
    "a number written with more bytes than needed": payload(issued=b"\xcf" + NOW.to_bytes(8, "big")),
}


@pytest.mark.parametrize("data", ALLOWED.values(), ids=list(ALLOWED))
def test_harmless_variation_is_read(data: bytes) -> None:
    assert decoded(data) == decoded(payload())


def test_candidates_of_unknown_kinds_are_skipped_whatever_they_hold() -> None:
    known = [[0, b"\1\2\3\4", 5]]
    unknown = [[9, b"\1\2\3", 0], [2**64 - 1, b"", 2**64 - 1]]
    assert decoded(payload(candidates=pack(unknown + known))).candidates == (candidate("1.2.3.4:5", Kind.HOST),)


UNPLAIN = {
    "a number as a key": pack({1: 2}),
    "nothing as a key": b"\x81\xc0\x01",
    "bytes as a key": b"\x81\xc4\x01a\x01",
    "a list as a key": b"\x81\x91\x01\x03",
    "an extension type": b"\xd4\x05\x01",
    "a time": b"\xd6\xff\xff\xff\xff\xff",
    "nine levels": pack([[[[[[[[[]]]]]]]]]),
    "five hundred levels": b"\x91" * 500 + b"\x01",
    "a number as a key below": pack([{"a": {1: 2}}]),
}


@pytest.mark.parametrize("hint", UNPLAIN.values(), ids=list(UNPLAIN))
def test_hint_that_nobody_could_show_is_left_out(hint: bytes) -> None:
    """Everything optional: the record is used, and `--json` of it cannot fail."""
    found = decoded(payload(hints=b"\x82\xa1a" + hint + b"\xa1b\x01"))
    assert found.hints == {"b": 1}
    assert json.loads(msgspec.json.encode(found.hints)) == {"b": 1}


@given(st.binary(max_size=639))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        decoded(data)
    except RecordRefused as refused:
        assert refused.reason == "malformed"  # noqa: PT017 - a few are records


pieces = st.sampled_from([bytes([value]) for value in range(256)]) | st.binary(max_size=6)
odd_pieces = st.lists(pieces, max_size=40).map(b"".join)


@given(st.sampled_from(["subject", "network", "issued", "lifetime", "candidates", "must", "hints"]), odd_pieces)
def test_any_bytes_in_place_of_a_field(field: str, data: bytes) -> None:
    try:
        decoded(payload(**{field: data}))
    except RecordRefused as refused:
        assert refused.reason == "malformed"  # noqa: PT017 - a few are records


messagepack = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(0, 9) | st.binary() | st.booleans(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), messagepack, max_size=5))
def test_any_hints_can_be_shown_as_json(hints: dict) -> None:
    """Nested values with odd keys are left out; what stays is JSON."""
    found = decoded(payload(hints=pack(hints))).hints
    assert set(found) <= set(hints)
    json.loads(msgspec.json.encode(found))


@given(messagepack, messagepack, messagepack)
def test_any_values_as_candidates_must_and_hints(candidates, must, hints) -> None:
    try:
        decoded(payload(candidates=pack(candidates), must=pack(must), hints=pack(hints)))
    except RecordRefused as refused:
        assert refused.reason == "malformed"  # noqa: PT017 - a few are records


# ---- the statement


def test_statement_is_signature_and_payload() -> None:
    data = encode(record())
    statement = sign(data, ALICE)
    assert (len(statement), statement[64:]) == (64 + len(data), data)
    assert verified(statement, SUBJECT) == data


@pytest.mark.parametrize("size", [0, 1, 63])
def test_statement_without_room_for_a_signature_is_malformed(size: int) -> None:
    with pytest.raises(RecordRefused, match=f"malformed: a statement of {size} bytes"):
        verified(bytes(size), SUBJECT)


def test_empty_payload_can_be_signed_and_is_malformed() -> None:
    assert verified(sign(b"", ALICE), SUBJECT) == b""
    assert reason(b"") == "malformed"


def test_signature_of_another_key_is_refused() -> None:
    with pytest.raises(RecordRefused, match="signature: not signed by") as refused:
        verified(sign(encode(record()), BOB), SUBJECT)
    assert str(SUBJECT) not in str(refused.value)


def test_nothing_is_decoded_before_the_signature_is_checked(monkeypatch) -> None:
    """Bytes of a stranger never reach the parser."""
    from tests.unit.records import here, sealed_payload
    from wgdisco import freshness
    from wgdisco.freshness import Marks, read

    def never(data: bytes) -> None:
        raise AssertionError("decoded unsigned bytes")

    monkeypatch.setattr(freshness, "decode_head", never)
    monkeypatch.setattr(freshness, "decode_body", never)
    with pytest.raises(RecordRefused, match="signature"):
        read(sealed_payload(payload(), signer=BOB), here(), Marks(), NOW)
