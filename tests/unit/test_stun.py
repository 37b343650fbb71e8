"""The STUN codec: RFC 5769's vectors, aioice as a second opinion, and bytes that mean harm."""

import hashlib
import hmac
import struct
from zlib import crc32

import aioice.stun
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgdisco.endpoint import Endpoint
from wgdisco.stun import COOKIE, Attribute, Change, Integrity, Message, StunError, Type, decode, encode

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b15126"
    "3b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
RESPONSE_V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
RESPONSE_V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
V4, V6 = Endpoint.parse("192.0.2.1:32853"), Endpoint.parse("[2001:db8:1234:5678:11:2233:4455:6677]:32853")


def message(number: int, *attributes: tuple[int, bytes]) -> bytes:
    """A STUN message made by hand."""
    body = b"".join(struct.pack("!HH", name, len(v)) + v + bytes(-len(v) % 4) for name, v in attributes)
    return struct.pack("!HHI12s", number, len(body), COOKIE, TRANSACTION) + body


def test_the_request_of_rfc_5769_is_read():
    read = decode(REQUEST)
    assert (read.type, read.transaction) == (Type.REQUEST, TRANSACTION)
    assert read.attributes == {Attribute.SOFTWARE: "STUN test client", Attribute.USERNAME: "evtj:h6vY"}
    assert read.unknown == (0x0024,)  # PRIORITY has to be understood, ICE-CONTROLLED need not


@pytest.mark.parametrize(("raw", "mapped"), [(RESPONSE_V4, V4), (RESPONSE_V6, V6)])
def test_the_responses_of_rfc_5769_are_read(raw, mapped):
    read = decode(raw)
    assert (read.type, read.mapped, read.attributes[Attribute.SOFTWARE]) == (Type.SUCCESS, mapped, "test vector")


@pytest.mark.parametrize("raw", [REQUEST, RESPONSE_V4, RESPONSE_V6])
def test_the_integrity_of_rfc_5769_is_checked(raw):
    assert decode(raw).signed_by(PASSWORD, Integrity.SHA1)
    assert not decode(raw).signed_by(PASSWORD + b"x", Integrity.SHA1)
    assert not decode(raw).signed_by(PASSWORD, Integrity.SHA256)


ENDPOINTS = st.builds(Endpoint, st.ip_addresses(), st.integers(0, 65535))
VALUES = {
    Attribute.MAPPED_ADDRESS: ENDPOINTS,
    Attribute.XOR_MAPPED_ADDRESS: ENDPOINTS,
    Attribute.CHANGED_ADDRESS: ENDPOINTS,
    Attribute.OTHER_ADDRESS: ENDPOINTS,
    Attribute.RESPONSE_ORIGIN: ENDPOINTS,
    Attribute.CHANGE_REQUEST: st.sampled_from([Change(0), Change.PORT, Change.ADDRESS, Change.PORT | Change.ADDRESS]),
    Attribute.USERNAME: st.text(max_size=50),
    Attribute.SOFTWARE: st.text(max_size=50),
    Attribute.ERROR_CODE: st.tuples(st.integers(300, 699), st.text(max_size=50)),
    Attribute.UNKNOWN_ATTRIBUTES: st.lists(st.integers(0, 65535), max_size=9).map(tuple),
}
MESSAGES = st.builds(
    Message,
    st.sampled_from(Type),
    st.fixed_dictionaries({}, optional=VALUES),
    st.binary(min_size=12, max_size=12),
)


@given(MESSAGES, st.none() | st.binary(min_size=1, max_size=40), st.sampled_from(Integrity))
def test_what_is_written_is_read_back(written, key, by):
    read = decode(encode(written, key, by))
    assert read == written
    assert read.signed_by(key or b"", by) is (key is not None)


AIOICE = [
    "MAPPED_ADDRESS",
    "XOR_MAPPED_ADDRESS",
    "OTHER_ADDRESS",
    "RESPONSE_ORIGIN",
    "USERNAME",
    "SOFTWARE",
    "ERROR_CODE",
]


@given(st.fixed_dictionaries({}, optional={Attribute[name]: VALUES[Attribute[name]] for name in AIOICE}))
def test_aioice_reads_what_we_write_and_we_what_it_writes(attributes):
    plain = {
        name.name.replace("_", "-"): (str(value.address), value.port) if isinstance(value, Endpoint) else value
        for name, value in attributes.items()
    }
    ours = encode(Message(Type.SUCCESS, attributes, TRANSACTION), b"key", Integrity.SHA1)
    theirs = aioice.stun.parse_message(ours)
    assert theirs.check_message_integrity(b"key")
    assert {k: v for k, v in theirs.attributes.items() if k not in ("MESSAGE-INTEGRITY", "FINGERPRINT")} == plain
    again = aioice.stun.Message(aioice.stun.Method.BINDING, aioice.stun.Class.RESPONSE, TRANSACTION, plain)
    again.add_message_integrity(b"key")
    assert bytes(again) == ours


def test_sha256_integrity_is_the_hmac_over_everything_before_it():
    raw = encode(Message(Type.REQUEST, {Attribute.USERNAME: "me"}), b"key")
    end = raw.index(b"\x00\x1c\x00\x20")
    adjusted = raw[:2] + struct.pack("!H", end - 20 + 36) + raw[4:end]
    assert raw[end + 4 : end + 36] == hmac.digest(b"key", adjusted, hashlib.sha256)


def test_a_truncated_sha256_code_is_read_but_never_valid():
    code = hmac.digest(b"key", message(1, (0x1C, bytes(16)))[:20], "sha256")[:16]
    assert not decode(message(1, (0x1C, code))).signed_by(b"key")


def test_every_changed_bit_of_a_signed_message_shows():
    raw = encode(Message(Type.SUCCESS, {Attribute.XOR_MAPPED_ADDRESS: V6, Attribute.USERNAME: "abc"}), b"key")
    for bit in range(8 * (len(raw) - 8)):
        forged = bytearray(raw[:-8])
        forged[bit // 8] ^= 1 << bit % 8
        forged += struct.pack("!HHI", 0x8028, 4, crc32(forged) ^ 0x5354554E)  # an attacker mends the fingerprint
        try:
            read = decode(bytes(forged))
        except StunError:
            continue
        assert not read.signed_by(b"key"), bit


def test_attributes_behind_an_integrity_code_do_not_count():
    """RFC 8489 section 14.5: only the other integrity code and the fingerprint may follow."""
    code = (0x08, bytes(20))
    late = (0x20, bytes.fromhex("0001a147e112a643"))
    assert decode(message(0x101, late, code)).mapped == V4
    assert decode(message(0x101, code, late)).mapped is None


def test_of_two_equal_integrity_codes_the_first_counts():
    right = encode(Message(transaction=TRANSACTION), b"key", Integrity.SHA1)[20:-8]
    for codes, valid in (([right[4:], bytes(20)], True), ([bytes(20), right[4:]], False)):
        assert decode(message(1, *((0x08, code) for code in codes))).signed_by(b"key", Integrity.SHA1) is valid


def test_of_two_equal_attributes_the_first_counts():
    first, second = (0x06, b"first"), (0x06, b"second")
    assert decode(message(1, first, second)).attributes == {Attribute.USERNAME: "first"}


def test_the_plain_mapped_address_is_a_fallback():
    plain, xor = (0x01, bytes.fromhex("00010001c0000209")), (0x20, bytes.fromhex("0001a147e112a643"))
    assert decode(message(0x101, plain)).mapped == Endpoint.parse("192.0.2.9:1")
    assert decode(message(0x101, plain, xor)).mapped == V4


def test_padding_may_be_anything():
    raw = message(1, (0x06, b"abc"))
    assert decode(raw[:-1] + b"!").attributes == {Attribute.USERNAME: "abc"}


def test_text_that_is_no_utf8_does_not_spoil_the_message():
    assert decode(message(0x101, (0x8022, b"\xff\xfe"))).attributes == {Attribute.SOFTWARE: "\ufffd\ufffd"}


FIXED = Message(transaction=bytes(12))  # so that every worker collects the same test


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "0 bytes are too few for a STUN header"),
        (message(1)[:19], "19 bytes are too few"),
        (message(1) + b"\0", "length 0 in 21 bytes"),
        (message(1, (6, b"abcd"))[:-4], "length 8 in 24 bytes"),
        (message(1)[:4] + bytes(16), "cookie 0x00000000"),
        (message(0x003), "message type 0x0003 is not of the binding method"),
        (message(0x8001), "message type 0x8001"),
        (message(1)[:2] + b"\0\4" + message(1)[4:] + b"\0\6\0\1", "attribute 0x0006 of 1 bytes reaches beyond"),
        (message(0x101, (0x20, b"")), "an address of 0 bytes"),
        (message(0x101, (0x20, bytes.fromhex("0002a147e112a643"))), "an address of 8 bytes"),
        (message(0x101, (0x20, bytes(40))), "an address of 40 bytes"),
        (message(0x101, (0x01, bytes.fromhex("0003000100000000"))), "an address of 8 bytes"),
        (message(0x111, (0x09, b"\0\0\4")), "ERROR-CODE '000004'"),
        (message(0x111, (0x09, b"\0\0\4\x64")), "ERROR-CODE '00000464'"),
        (message(0x111, (0x0A, b"\0\0\4")), "UNKNOWN-ATTRIBUTES of 3 bytes"),
        (message(0x001, (0x03, b"\0\0\4")), "CHANGE-REQUEST of 3 bytes"),
        (message(0x001, (0x08, bytes(19))), "MESSAGE-INTEGRITY of 19 bytes"),
        (message(0x001, (0x1C, bytes(12))), "MESSAGE-INTEGRITY-SHA256 of 12 bytes"),
        (message(0x001, (0x8028, bytes(4))), "the fingerprint is wrong"),
        (encode(FIXED)[:2] + b"\0\x10" + encode(FIXED)[4:] + message(1, (6, b"late"))[20:], "wrong|follows"),
    ],
)
def test_malformed_messages_are_refused(raw, why):
    with pytest.raises(StunError, match=why):
        decode(raw)


def test_nothing_may_follow_the_fingerprint():
    first = struct.pack("!HHI12s", 1, 16, COOKIE, TRANSACTION)
    right = crc32(struct.pack("!HHI12s", 1, 8, COOKIE, TRANSACTION)) ^ 0x5354554E
    with pytest.raises(StunError, match="attribute 0x0006 follows the fingerprint"):
        decode(first + struct.pack("!HHI", 0x8028, 4, right) + struct.pack("!HH4s", 6, 4, b"late"))


@given(st.binary(max_size=200))
def test_garbage_raises_only_the_codec_s_own_error(body):
    header = struct.pack("!HHI12s", 0x0101, len(body), COOKIE, TRANSACTION)
    for raw in (body, header + body):
        try:
            decode(raw)
        except StunError:
            continue


@given(MESSAGES, st.data())
def test_damaged_messages_raise_only_the_codec_s_own_error(written, data):
    raw = bytearray(encode(written, b"key", data.draw(st.sampled_from(Integrity)))[:-8])
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw[2:8] = struct.pack("!HI", len(raw) - 20, COOKIE)
    try:
        decode(bytes(raw))
    except StunError:
        return
