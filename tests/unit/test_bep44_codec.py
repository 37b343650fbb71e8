"""Bencode, KRPC messages, contacts, node ids: what is read, what is refused, and that nothing else escapes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wgdisco.bep44.bencode import DEEPEST, BencodeError, Raw, decode, encode
from wgdisco.bep44.contact import Contact, compact, distance, endpoint_from, host, pack, reachable, unpack
from wgdisco.bep44.identity import matches, node_id
from wgdisco.bep44.krpc import Code, Failure, KrpcError, Query, Refusal, Reply, read
from wgdisco.endpoint import Endpoint

LEAVES = st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=8), inner, max_size=5),
    max_leaves=20,
)
ENDPOINTS = st.builds(Endpoint, st.ip_addresses(), st.integers(1, 65535))
ID = bytes(range(20))


@given(VALUES)
def test_values_survive_the_round_trip(value):
    assert decode(encode(value)) == value


@given(st.binary(max_size=200))
@example(b"d1:ad2:id20:")
@example(b"l" * 100)
def test_only_the_codecs_error_escapes(data):
    try:
        value = decode(data)
    except BencodeError:
        return
    assert decode(encode(value)) == value


@given(st.binary(max_size=120) | VALUES.map(encode))
def test_only_the_message_error_escapes(data):
    try:
        message = read(data)
    except KrpcError:
        return
    assert isinstance(message, Query | Reply | Failure)


@given(st.data())
def test_a_damaged_message_is_read_or_refused(data):
    whole = Reply(
        b"tttt", {b"id": ID, b"nodes": bytes(26), b"token": b"12345678"}, Endpoint(IPv4Address("192.0.2.1"), 1)
    ).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + 1 :]
    try:
        read(damaged)
    except KrpcError:
        return


BAD = {
    "nothing": b"",
    "leading zero": b"i01e",
    "minus zero": b"i-0e",
    "plus sign": b"i+1e",
    "blank": b"i 1e",
    "empty number": b"ie",
    "number of 21 digits": b"i" + b"9" * 21 + b"e",
    "underscore": b"i1_0e",
    "length with a leading zero": b"01:a",
    "negative length": b"-1:a",
    "string cut short": b"3:ab",
    "endless list": b"li1e",
    "endless dictionary": b"d1:a",
    "key that is no string": b"di1ei2ee",
    "key twice": b"d1:ai1e1:ai2ee",
    "something behind it": b"i1ei2e",
    "unknown letter": b"x",
    "too deep": b"l" * (DEEPEST + 1) + b"e" * (DEEPEST + 1),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_has_two_spellings_or_none_is_refused(data):
    with pytest.raises(BencodeError):
        decode(data)


def test_the_deepest_that_is_allowed_is_read():
    assert decode(b"l" * DEEPEST + b"e" * DEEPEST)


def test_keys_may_come_in_any_order():
    """Some nodes of the network do not sort; nothing is signed over a whole message."""
    assert decode(b"d1:bi1e1:ai2ee") == {b"b": 1, b"a": 2}


def test_a_raw_key_keeps_the_bytes_as_they_stood():
    """An encoder would sort these keys, and the signature would not fit any more."""
    assert decode(b"d1:vd1:bi1e1:ai2eee", raw_key=b"v") == {b"v": Raw(b"d1:bi1e1:ai2ee")}
    assert encode({b"v": Raw(b"d1:bi1e1:ai2ee")}) == b"d1:vd1:bi1e1:ai2eee"


@pytest.mark.parametrize("value", [None, "text", 1.5, True, {"key": 1}, [None]])
def test_what_has_no_bencoded_form_is_refused(value):
    with pytest.raises(BencodeError, match="no bencoded form"):
        encode(value)


MESSAGES = [
    Query(b"aa", b"ping", {b"id": ID}),
    Query(b"aa", b"get", {b"id": ID, b"target": ID}, read_only=True),
    Reply(b"aa", {b"id": ID, b"token": b"t"}),
    Reply(b"aa", {b"id": ID}, Endpoint(IPv6Address("2001:db8::1"), 6881)),
    Failure(b"aa", 302, "sequence number less than current"),
    Failure(b"aa", 203, "no", Endpoint(IPv4Address("192.0.2.1"), 6881)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_messages_survive_the_round_trip(message):
    assert read(message.encode()) == message


def test_the_examples_of_bep_5_are_read():
    ping = read(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe")
    assert ping == Query(b"aa", b"ping", {b"id": b"abcdefghij0123456789"})
    assert read(b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re").id == b"mnopqrstuvwxyz123456"
    error = read(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee")
    assert error == Failure(b"aa", Code.GENERIC, "A Generic Error Ocurred")


NOT_MESSAGES = {
    "a list": [],
    "no transaction": {b"y": b"r", b"r": {b"id": ID}},
    "an empty transaction": {b"t": b"", b"y": b"r", b"r": {b"id": ID}},
    "a long transaction": {b"t": bytes(33), b"y": b"r", b"r": {b"id": ID}},
    "another kind": {b"t": b"a", b"y": b"z"},
    "no kind": {b"t": b"a"},
    "a kind that is a list": {b"t": b"a", b"y": []},
    "a query without arguments": {b"t": b"a", b"y": b"q", b"q": b"ping"},
    "a reply without id": {b"t": b"a", b"y": b"r", b"r": {}},
    "a reply with a short id": {b"t": b"a", b"y": b"r", b"r": {b"id": b"short"}},
    "an error without text": {b"t": b"a", b"y": b"e", b"e": [201]},
    "an error that is a string": {b"t": b"a", b"y": b"e", b"e": b"201"},
}


@pytest.mark.parametrize("value", NOT_MESSAGES.values(), ids=NOT_MESSAGES)
def test_what_is_no_message_is_refused(value):
    with pytest.raises(KrpcError):
        read(encode(value))


def test_a_datagram_over_2048_bytes_is_refused_unread():
    with pytest.raises(KrpcError, match="at most 2048"):
        read(Reply(b"aa", {b"id": ID, b"pad": bytes(2048)}).encode())


def test_a_missing_argument_is_a_protocol_error():
    with pytest.raises(Refusal, match="target is missing") as refused:
        Query(b"aa", b"get", {b"id": ID, b"target": b"short"}).field(b"target", 20)
    assert refused.value.code is Code.PROTOCOL


@pytest.mark.parametrize("token", [b"x" * 65, 5, []])
def test_a_token_that_is_no_short_string_is_none(token):
    assert Reply(b"aa", {b"id": ID, b"token": token}).token is None


def test_contacts_that_are_no_string_are_none():
    assert Reply(b"aa", {b"id": ID, b"nodes": 5, b"nodes6": [b"x"]}).contacts == []


@given(st.lists(st.builds(Contact, st.binary(min_size=20, max_size=20), ENDPOINTS), max_size=16))
def test_contacts_survive_the_round_trip(contacts):
    for version in (4, 6):
        own = [contact for contact in contacts if contact.endpoint.address.version == version]
        assert unpack(pack(own), version) == own
        assert unpack(pack(own) + b"rest", version) == own


def test_no_more_contacts_are_taken_than_wanted():
    assert len(unpack(bytes(26 * 100), 4, most=16)) == 16


@given(ENDPOINTS)
def test_endpoints_survive_the_round_trip(endpoint):
    assert endpoint_from(compact(endpoint)) == endpoint


@pytest.mark.parametrize("size", [0, 5, 7, 17, 19])
def test_other_sizes_are_no_endpoint(size):
    assert endpoint_from(bytes(size)) is None


def test_distance_is_the_exclusive_or():
    assert distance(bytes(20), b"\x80" + bytes(19)) == 1 << 159


def test_an_ipv6_host_is_its_64_prefix():
    assert host(ip_address("2001:db8::1")) == host(ip_address("2001:db8::ffff"))
    assert host(ip_address("192.0.2.1")) != host(ip_address("192.0.2.2"))


@pytest.mark.parametrize(
    ("endpoint", "said_by", "allowed"),
    [
        ("1.1.1.1:53", "8.8.8.8:1", True),
        ("192.168.1.1:53", "8.8.8.8:1", False),
        ("127.0.0.1:53", "8.8.8.8:1", False),
        ("[fe80::1]:53", "[2606:4700::1]:1", False),
        ("192.168.1.1:53", "192.168.1.2:1", True),
        ("127.0.0.1:53", "127.0.0.1:1", True),
        ("224.0.0.1:53", "127.0.0.1:1", False),
        ("0.0.0.0:53", "127.0.0.1:1", False),
        ("255.255.255.255:53", "127.0.0.1:1", False),
        ("[ff02::1]:53", "[::1]:1", False),
    ],
)
def test_nobody_on_the_internet_points_us_into_our_own_network(endpoint, said_by, allowed):
    assert reachable(Endpoint.parse(endpoint), Endpoint.parse(said_by)) is allowed


def test_a_contact_without_port_is_never_asked():
    assert not reachable(Endpoint(IPv4Address("1.1.1.1"), 0), Endpoint.parse("8.8.8.8:1"))


@pytest.mark.parametrize(
    ("address", "prefix", "last"),
    [
        ("124.31.75.21", "5fbfbf", 1),
        ("21.75.31.124", "5a3ce9", 86),
        ("65.23.51.170", "a5d432", 22),
        ("84.124.73.14", "1b0321", 65),
        ("43.213.53.83", "e56f6c", 90),
    ],
)
def test_the_vectors_of_bep_42(address, prefix, last):
    fits = bytes.fromhex(prefix) + bytes(16) + bytes([last])
    assert matches(fits, ip_address(address))
    assert not matches(bytes([fits[0] ^ 1]) + fits[1:], ip_address(address))
    assert not matches(fits[:2] + bytes([fits[2] ^ 8]) + fits[3:], ip_address(address))


@given(st.ip_addresses())
def test_an_id_made_for_an_address_fits_it(address):
    assert matches(node_id(address), address)


def test_ids_on_a_local_network_are_free():
    assert matches(bytes(20), ip_address("192.168.1.1"))
