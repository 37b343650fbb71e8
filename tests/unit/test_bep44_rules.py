"""The rules of a storing node: tokens, storage, error codes, limits, routing table, what others say of our address."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha1
from ipaddress import ip_address

import pytest
from nacl.signing import SigningKey

from tests.backends.dhtnodes import item, signer
from wgdisco.bep44.bencode import Raw, encode
from wgdisco.bep44.contact import Contact, distance
from wgdisco.bep44.item import Item, target_of
from wgdisco.bep44.krpc import Code, Failure, Query, Refusal, Reply, read
from wgdisco.bep44.limits import Limiter, Limits
from wgdisco.bep44.observed import Observed
from wgdisco.bep44.responder import LARGEST, Responder
from wgdisco.bep44.storage import LIFETIME, Storage
from wgdisco.bep44.table import K, Table
from wgdisco.bep44.tokens import TURN, Tokens
from wgdisco.endpoint import Endpoint

ME, OTHER = Endpoint.parse("127.0.0.1:5000"), Endpoint.parse("127.0.0.2:5000")
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group, RFC 8032
TARGET = bytes(20)


def contact(index: int, address: str = "127.0.0.1", node: bytes | None = None) -> Contact:
    return Contact(node or os.urandom(20), Endpoint(ip_address(address), 1000 + index))


# item


def test_the_vectors_of_bep_44():
    """Keys, values, targets and signatures of the BEP's test vectors 1 and 2."""
    public = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
    plain = Item(
        public,
        1,
        Raw(b"12:Hello World!"),
        bytes.fromhex(
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
            "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
        ),
    )
    salted = Item(
        public,
        1,
        Raw(b"12:Hello World!"),
        bytes.fromhex(
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
            "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
        ),
        b"foobar",
    )
    assert plain.valid()
    assert plain.target.hex() == "4a533d47ec9c7d95b1ad75f576cffc641853b750"
    assert salted.valid()
    assert salted.target.hex() == "411eba73b6f087ca51a3795d9c8c938d365e32c1"


def test_a_slot_signer_makes_valid_items():
    made = item(7, b"blob")
    assert made.valid()
    assert made.value == b"blob"
    assert made.target == target_of(made.public)


def test_the_second_spelling_of_a_signature_is_refused():
    """S + L verifies with lax verifiers, libtorrent among them (RFC 8032 section 5.1.7)."""
    made = item()
    s = int.from_bytes(made.signature[32:], "little") + ORDER
    assert not replace(made, signature=made.signature[:32] + s.to_bytes(32, "little")).valid()


@pytest.mark.parametrize(
    "change", [{"seq": 2}, {"encoded": Raw(b"1:x")}, {"salt": b"s"}, {"signature": bytes(64)}, {"public": bytes(32)}]
)
def test_another_content_makes_an_item_invalid(change):
    assert not replace(item(), **change).valid()


@pytest.mark.parametrize("change", [{"seq": -1}, {"seq": 2**63}, {"public": b"short"}, {"signature": b"short"}])
def test_what_is_out_of_range_is_invalid(change):
    assert not replace(item(), **change).valid()


@pytest.mark.parametrize(("seq", "valid"), [(-1, False), (0, True), (2**63 - 1, True), (2**63, False)])
def test_a_number_out_of_range_is_invalid_even_when_it_is_signed(seq, valid):
    assert item(seq).valid() is valid


def test_a_value_of_another_type_is_none():
    assert replace(item(), encoded=Raw(b"i5e")).value is None


# tokens


def test_a_token_holds_for_its_address_and_target_only():
    tokens = Tokens()
    token = tokens.give(ME.address, TARGET, 0.0)
    assert tokens.accept(token, ME.address, TARGET, 0.0)
    assert not tokens.accept(token, OTHER.address, TARGET, 0.0)
    assert not tokens.accept(token, ME.address, bytes([1]) + bytes(19), 0.0)


def test_a_token_holds_for_one_to_two_turns():
    tokens = Tokens()
    token = tokens.give(ME.address, TARGET, 0.0)
    assert tokens.accept(token, ME.address, TARGET, 2 * TURN - 1)
    assert not tokens.accept(token, ME.address, TARGET, 2 * TURN)


def test_tokens_of_another_node_and_no_tokens_are_refused():
    assert not Tokens().accept(Tokens().give(ME.address, TARGET, 0.0), ME.address, TARGET, 0.0)
    assert not Tokens().accept(None, ME.address, TARGET, 0.0)
    assert not Tokens().accept(b"", ME.address, TARGET, 0.0)


# storage


def refused(storage: Storage, made: Item, **arguments: int) -> Code:
    with pytest.raises(Refusal) as error:
        storage.put(made, b"host", 0.0, **arguments)
    return error.value.code


def test_an_item_is_kept_for_two_hours():
    storage, made = Storage(), item()
    storage.put(made, b"host", 0.0)
    assert storage.get(made.target, LIFETIME - 1) == made
    assert storage.get(made.target, LIFETIME) is None
    assert len(storage) == 0


def test_the_identical_item_starts_its_lifetime_anew():
    storage, made = Storage(), item()
    storage.put(made, b"host", 0.0)
    storage.put(made, b"host", LIFETIME - 1)
    assert storage.get(made.target, LIFETIME + 1) == made


def test_expired_items_are_swept():
    storage = Storage()
    storage.put(item(), b"host", 0.0)
    storage.put(kept := item(), b"host", 10.0)
    storage.expire(LIFETIME)
    assert len(storage) == 1
    assert storage.get(kept.target, LIFETIME) == kept


def test_a_newer_item_replaces_an_older_one_and_not_the_other_way_round():
    storage, by = Storage(), signer()
    older, newer = item(1, b"older", by), item(2, b"newer", by)
    storage.put(older, b"host", 0.0)
    storage.put(newer, b"host", 0.0)
    assert refused(storage, older) is Code.OLD_SEQ
    assert storage.get(newer.target, 0.0) == newer


def test_another_value_with_the_same_number_is_refused():
    storage, by = Storage(), signer()
    storage.put(item(1, b"one", by), b"host", 0.0)
    assert refused(storage, item(1, b"two", by)) is Code.OLD_SEQ


def test_cas_has_to_match_what_is_there():
    storage, by = Storage(), signer()
    storage.put(item(1, b"one", by), b"host", 0.0, cas=99)  # ignored where nothing is stored
    assert refused(storage, item(2, b"two", by), cas=2) is Code.CAS_MISMATCH
    storage.put(item(2, b"two", by), b"host", 0.0, cas=1)
    assert storage.get(target_of(by.public), 0.0).seq == 2


def test_a_value_may_have_a_thousand_bytes_and_no_more():
    storage = Storage()
    storage.put(item(1, bytes(996)), b"host", 0.0)
    assert refused(storage, item(1, bytes(997))) is Code.TOO_BIG


def test_a_salt_over_64_bytes_is_refused():
    assert refused(Storage(), replace(item(), salt=bytes(65))) is Code.SALT_TOO_BIG


def test_a_wrong_signature_is_refused():
    assert refused(Storage(), replace(item(), signature=bytes(64))) is Code.SIGNATURE


def test_the_item_not_used_for_the_longest_time_goes_first():
    storage = Storage(capacity=3)
    first, second, *rest = [item() for _ in range(4)]
    for number, made in enumerate([first, second, rest[0]]):
        storage.put(made, b"host %d" % number, 0.0)
    assert storage.get(first.target, 0.0) == first
    storage.put(rest[1], b"host 9", 0.0)
    assert storage.get(second.target, 0.0) is None
    assert storage.get(first.target, 0.0) == first
    assert len(storage) == 3


def test_one_host_cannot_push_out_the_items_of_others():
    storage, others = Storage(capacity=16), [item() for _ in range(4)]
    for number, made in enumerate(others):
        storage.put(made, b"host %d" % number, 0.0)
    flood = [item() for _ in range(40)]
    for made in flood:
        storage.put(made, b"flooder", 0.0)
    assert [storage.get(made.target, 0.0) for made in others] == others
    assert len(storage) == len(others) + storage.share


def test_who_repeats_an_item_does_not_own_it():
    """Else a flooder could put another's item again and let his next ones push it out."""
    storage, victim = Storage(capacity=16), item()
    storage.put(victim, b"host", 0.0)
    storage.put(victim, b"flooder", 0.0)
    for _ in range(8):
        storage.put(item(), b"flooder", 0.0)
    assert storage.get(victim.target, 0.0) == victim


# answers


@pytest.fixture
def responder() -> Responder:
    return Responder({4: Table(os.urandom(20))}, Storage())


def ask(responder: Responder, method: bytes, source: Endpoint = ME, **arguments: object) -> Reply | Failure:
    """Ask as a node would; the answer as it would be read."""
    told = {b"id": os.urandom(20)} | {name.encode(): value for name, value in arguments.items()}
    query = read(Query(b"tx", method, told).encode())
    assert isinstance(query, Query)
    answer = read(responder.answer(query, source, 0.0))
    assert not isinstance(answer, Query)
    return answer


def put(responder: Responder, made: Item, source: Endpoint = ME, **arguments: object) -> Reply | Failure:
    token = ask(responder, b"get", source, target=made.target).token
    told = {"k": made.public, "seq": made.seq, "v": made.encoded, "sig": made.signature, "token": token}
    return ask(responder, b"put", source, **(told | ({"salt": made.salt} if made.salt else {}) | arguments))


def code(answer: Reply | Failure) -> int:
    assert isinstance(answer, Failure), answer
    return answer.code


def test_a_put_is_found_by_a_get(responder):
    made = item(5, b"blob")
    assert isinstance(put(responder, made), Reply)
    values = ask(responder, b"get", OTHER, target=made.target).values
    assert (values[b"k"], values[b"seq"], values[b"v"], values[b"sig"]) == (made.public, 5, b"4:blob", made.signature)


def test_a_get_with_the_same_number_brings_the_number_only(responder):
    made = item(5)
    put(responder, made)
    values = ask(responder, b"get", target=made.target, seq=5).values
    assert values[b"seq"] == 5
    assert not {b"k", b"v", b"sig"} & set(values)
    assert b"v" in ask(responder, b"get", target=made.target, seq=4).values


def test_every_answer_says_where_we_see_the_asker(responder):
    assert ask(responder, b"ping").observed == ME
    assert ask(responder, b"nonsense").observed == ME


def test_an_unknown_method_is_204(responder):
    assert code(ask(responder, b"sample_infohashes", target=TARGET)) == 204


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (b"find_node", {}),
        (b"find_node", {"target": b"short"}),
        (b"get", {"target": 5}),
        (b"get_peers", {}),
        (b"announce_peer", {}),
        (b"ping", {"id": b"short"}),
        (b"put", {}),
    ],
)
def test_missing_or_wrong_arguments_are_203(responder, method, arguments):
    assert code(ask(responder, method, **arguments)) == 203


@pytest.mark.parametrize(
    "wrong",
    [
        {"seq": -1},
        {"seq": 2**63},
        {"seq": b"5"},
        {"k": b"short"},
        {"sig": bytes(63)},
        {"salt": 5},
        {"cas": b"1"},
        {"token": b"x"},
    ],
)
def test_a_put_with_wrong_fields_is_203(responder, wrong):
    assert code(put(responder, item(), **wrong)) == 203


def test_a_token_of_another_address_or_target_is_203(responder):
    made = item()
    token = ask(responder, b"get", OTHER, target=made.target).token
    assert code(put(responder, made, token=token)) == 203
    assert code(put(responder, made, token=ask(responder, b"get", target=TARGET).token)) == 203


def test_the_codes_of_bep_44(responder):
    by = signer()
    assert isinstance(put(responder, item(2, b"two", by)), Reply)
    assert code(put(responder, item(1, bytes(997)))) == 205
    assert code(put(responder, replace(item(), signature=bytes(64)))) == 206
    assert code(put(responder, replace(item(), salt=bytes(65)))) == 207
    assert code(put(responder, item(3, b"three", by), cas=1)) == 301
    assert code(put(responder, item(1, b"one", by))) == 302


def test_an_immutable_put_is_refused(responder):
    encoded = encode(b"immutable")
    token = ask(responder, b"get", target=target_of(encoded)).token
    assert code(ask(responder, b"put", v=Raw(encoded), token=token)) == 203


def test_a_value_of_any_bencoded_type_is_kept_as_it_was_written(responder):
    """Signed are the bytes, here of a dictionary that an encoder would sort."""
    key, encoded = SigningKey.generate(), Raw(b"d1:bi1e1:ai2ee")
    unsigned = Item(bytes(key.verify_key), 1, encoded, bytes(64))
    made = replace(unsigned, signature=key.sign(unsigned.message).signature)
    assert isinstance(put(responder, made), Reply)
    assert ask(responder, b"get", target=made.target).values[b"v"] == encoded


def test_torrents_get_nodes_and_are_not_remembered(responder):
    answer = ask(responder, b"get_peers", info_hash=TARGET)
    assert b"nodes" in answer.values
    assert b"values" not in answer.values
    assert isinstance(ask(responder, b"announce_peer", info_hash=TARGET, port=1, token=answer.token), Reply)
    assert code(ask(responder, b"announce_peer", info_hash=TARGET, port=1, token=b"x")) == 203


def test_a_node_that_does_not_store_gives_no_token_and_takes_nothing():
    reading = Responder({4: Table(os.urandom(20))}, None)
    assert ask(reading, b"get", target=TARGET).token is None
    assert isinstance(ask(reading, b"ping"), Reply)
    assert code(ask(reading, b"put")) == 204


def test_the_families_that_are_wanted_are_given():
    tables = {4: Table(os.urandom(20)), 6: Table(os.urandom(20))}
    tables[4].answered(contact(1), 0.0)
    tables[6].answered(contact(1, "::1"), 0.0)
    both = Responder(tables, Storage())
    assert set(ask(both, b"find_node", target=TARGET).values) == {b"id", b"nodes"}
    assert set(ask(both, b"find_node", target=TARGET, want=[b"n6"]).values) == {b"id", b"nodes6"}
    assert set(ask(both, b"find_node", target=TARGET, want=[b"n4", b"n6", b"n9"]).values) == {
        b"id",
        b"nodes",
        b"nodes6",
    }
    assert set(ask(both, b"find_node", target=TARGET, want=5).values) == {b"id", b"nodes"}


@pytest.mark.parametrize(("size", "most"), [(681, LARGEST), (900, LARGEST), (996, 1280)])
def test_no_answer_is_longer_than_it_has_to_be(size, most):
    """A large item, and nodes of both families: the farthest nodes are left out."""
    tables = {4: Table(os.urandom(20)), 6: Table(os.urandom(20))}
    for index in range(50):
        tables[4].answered(contact(index), 0.0)
        tables[6].answered(contact(index, "::1"), 0.0)
    full = Responder(tables, Storage())
    made = item(2**63 - 1, bytes(size))
    put(full, made)
    query = Query(bytes(32), b"get", {b"id": TARGET, b"target": made.target, b"want": [b"n4", b"n6"]})
    data = full.answer(query, Endpoint.parse("[::1]:65535"), 0.0)
    assert len(data) <= most
    assert read(data).values[b"v"] == made.encoded


# limits


def test_a_host_may_use_its_burst_and_then_its_rate():
    limiter = Limiter(Limits(rate=10.0, burst=100.0))
    assert [limiter.take(b"a", 50, 0.0) for _ in range(3)] == [True, True, False]
    assert limiter.take(b"b", 50, 0.0)
    assert not limiter.take(b"a", 50, 4.9)
    assert limiter.take(b"a", 50, 5.1)


def test_all_hosts_together_have_a_limit():
    limiter = Limiter(Limits(total_rate=10.0, total_burst=100.0))
    assert [limiter.take(b"%d" % host, 60, 0.0) for host in range(3)] == [True, False, False]


def test_no_more_hosts_are_remembered_than_allowed():
    limiter = Limiter(Limits(hosts=10))
    for host in range(1000):
        limiter.take(b"%d" % host, 1, 0.0)
    assert len(limiter) == 10


# observed


def test_our_address_is_what_most_hosts_say():
    seen, ours = Observed(), Endpoint.parse("1.2.3.4:5")
    for host in range(3):
        assert seen.address() is None
        seen.hear(Endpoint.parse(f"8.8.{host}.8:1"), ours)
    seen.hear(Endpoint.parse("9.9.9.9:1"), Endpoint.parse("6.6.6.6:6"))
    assert seen.address() == ours.address
    assert seen.endpoints() == {ours: 3, Endpoint.parse("6.6.6.6:6"): 1}


def test_hosts_that_disagree_tell_us_nothing():
    seen = Observed()
    for host in range(6):
        seen.hear(Endpoint.parse(f"8.8.{host}.8:1"), Endpoint.parse(f"1.2.3.{host % 2}:5"))
    assert seen.address() is None


def test_one_host_has_one_voice():
    seen = Observed()
    for port in range(1, 100):
        seen.hear(Endpoint.parse(f"8.8.8.8:{port}"), Endpoint.parse("6.6.6.6:6"))
    assert seen.address() is None
    assert seen.endpoints() == {Endpoint.parse("6.6.6.6:6"): 1}


def test_an_address_of_the_other_family_is_no_observation():
    seen = Observed()
    seen.hear(Endpoint.parse("8.8.8.8:1"), Endpoint.parse("[2001:db8::1]:5"))
    assert seen.endpoints() == {}


def test_the_voices_are_bounded():
    seen = Observed()
    for host in range(1000):
        seen.hear(Endpoint.parse(f"8.{host // 250}.{host % 250}.8:1"), Endpoint.parse("1.2.3.4:5"))
    assert sum(seen.endpoints().values()) == 64


# routing table


def test_the_closest_nodes_come_nearest_first():
    table = Table(os.urandom(20))
    nodes = [contact(index) for index in range(400)]
    for each in nodes:
        table.answered(each, 0.0)
    kept = set(table.contacts())
    for _ in range(50):
        target = os.urandom(20)
        wanted = sorted(kept, key=lambda each: distance(each.id, target))
        assert table.closest(target) == wanted[:K]
        assert table.closest(target, 3) == wanted[:3]
        assert table.closest(target, 1000) == wanted


def test_a_table_is_bounded():
    table = Table(bytes(20))
    for index in range(5000):
        table.answered(
            Contact((index * 2**140 + 1).to_bytes(20, "big"), Endpoint(ip_address("127.0.0.1"), 1 + index)), 0.0
        )
    assert len(table) <= 64 + 32 + 16 + 157 * K
    assert len(table) < 300


def test_a_good_node_is_not_displaced_and_a_bad_one_is():
    table = Table(bytes(20))
    near = [Contact(bytes(18) + bytes([1, index]), contact(index).endpoint) for index in range(9)]
    for each in near[:8]:
        table.answered(each, 0.0)
    assert not table.wants(near[8])
    table.failed(near[3].endpoint)
    assert not table.wants(near[8])
    table.failed(near[3].endpoint)
    assert table.wants(near[8])
    table.answered(near[8], 1.0)
    assert set(table.contacts()) == set(near) - {near[3]}


def test_a_node_that_failed_is_not_named_but_asked_again():
    table, each = Table(os.urandom(20)), contact(1)
    table.answered(each, 0.0)
    table.failed(each.endpoint)
    assert table.closest(TARGET) == []
    assert table.questionable(1.0) == [each]
    table.answered(each, 2.0)
    assert table.closest(TARGET) == [each]
    assert table.questionable(3.0) == []
    assert table.questionable(2000.0) == [each]


def test_one_endpoint_has_one_id():
    table, endpoint = Table(os.urandom(20)), ME
    for _ in range(10):
        table.answered(Contact(os.urandom(20), endpoint), 0.0)
    assert len(table) == 1


def test_one_public_host_has_one_place():
    table = Table(os.urandom(20))
    for index in range(10):
        table.answered(contact(index, "8.8.8.8"), 0.0)
        table.answered(contact(index, f"2606:4700::{index + 1}"), 0.0)
    assert len(table) == 2


def test_nobody_takes_over_the_id_of_a_node_that_answers():
    table, owner = Table(os.urandom(20)), contact(1)
    table.answered(owner, 0.0)
    table.answered(Contact(owner.id, OTHER), 1.0)
    assert table.contacts() == [owner]


def test_buckets_without_news_are_looked_up():
    table = Table(bytes.fromhex("a1") * 20)
    for index in range(100):
        table.answered(contact(index, node=sha1(bytes([index])).digest()), 0.0)  # the same nodes every time
    assert table.stale(100.0) == []
    stale = table.stale(901.0)
    assert [160 - distance(table.own, each).bit_length() for each in stale] == list(range(len(stale)))


def test_we_are_not_in_our_own_table():
    table = Table(bytes(20))
    table.answered(Contact(bytes(20), ME), 0.0)
    assert len(table) == 0
