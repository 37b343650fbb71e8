"""vectors.json, made by an independent implementation: every case, invalid case, sequence and refused key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from wgdisco.audience import Audience
from wgdisco.backend import from_text, to_text
from wgdisco.endpoint import Endpoint
from wgdisco.errors import InvalidKey, RecordRefused
from wgdisco.freshness import Marks, read
from wgdisco.keys import PrivateKey, PublicKey, verify
from wgdisco.record import Candidate, Kind, Record, decode_body, decode_head, encode, sign, verified

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
KEYS = {name: PrivateKey.parse(each["private"]) for name, each in VECTORS["keys"].items()}
NONCE = bytes.fromhex(VECTORS["nonce"])
SECRET = next(bytes.fromhex(case["secret"]) for case in VECTORS["cases"] if case["audience"] == "network")
NAMED = {"ids": lambda each: each["name"].replace(" ", "-")}
cases = pytest.mark.parametrize("case", VECTORS["cases"], **NAMED)
KNOWN_KINDS = {int(kind) for kind in Kind}


def audience_of(name: str, subject: str) -> Audience:
    if name == "key":
        return Audience.key(KEYS[subject].public)
    if name == "network":
        return Audience.members(SECRET)
    other = next(key for key in KEYS if key != subject)
    return Audience.peers(KEYS[subject], KEYS[other].public)


def place_of(case: dict):
    return audience_of(case["audience"], case["subject"]).place(KEYS[case["subject"]].public, case["period"])


def record_of(case: dict) -> Record:
    return Record(
        subject=KEYS[case["subject"]].public,
        network=bytes.fromhex(case["network"]),
        issued=case["issued"],
        lifetime=case["lifetime"],
        candidates=tuple(
            Candidate(Kind(kind), Endpoint.parse(f"[{address}]:{port}" if ":" in address else f"{address}:{port}"))
            for kind, address, port in case["candidates"]
            if kind in KNOWN_KINDS
        ),
        must=tuple(case["must"]),
        hints=case["hints"],
    )


def test_the_file_is_the_one_we_know() -> None:
    """A shortened copy would make this module pass for nothing."""
    numbers = [len(VECTORS[part]) for part in ("cases", "invalid", "sequences", "keys refused")]
    assert numbers == [8, 32, 6, 9]


@pytest.mark.parametrize("name", KEYS)
def test_keys(name: str) -> None:
    given = VECTORS["keys"][name]
    public = KEYS[name].public
    assert (str(public), public.edwards.hex()) == (given["public"], given["edwards"])


def test_unclamped_private_key_is_the_same_node() -> None:
    assert PrivateKey.parse(VECTORS["unclamped private key of A"]).public == KEYS["A"].public


def test_both_edwards_signs_occur() -> None:
    """The branch that negates the scalar is taken by one of the two keys."""
    assert {
        PrivateKey.parse(each["private"])._scalar == _reduced(each["private"]) for each in VECTORS["keys"].values()
    } == {
        True,
        False,
    }


def _reduced(text: str) -> bytes:
    from nacl.bindings import crypto_core_ed25519_scalar_reduce

    return crypto_core_ed25519_scalar_reduce(PrivateKey.parse(text)._clamped + bytes(32))


@cases
def test_audience(case: dict) -> None:
    audience = audience_of(case["audience"], case["subject"])
    assert (audience._secret.hex(), audience.network.hex()) == (case["secret"], case["network"])


@cases
def test_slot(case: dict) -> None:
    place = place_of(case)
    found = (place.public.hex(), place.id.hex(), place.text, place.offset + case["issued"])
    assert found == (case["slot key"], case["slot id"], case["slot text"], case["slot seq"])


@cases
def test_period_contains_the_moment_of_writing(case: dict) -> None:
    audience, subject = audience_of(case["audience"], case["subject"]), KEYS[case["subject"]].public
    now = 1000 * VECTORS["now"]
    assert case["period"] - audience.period(subject, now) == ("next period" in case["name"])


@cases
def test_payload_is_encoded_byte_for_byte(case: dict) -> None:
    if any(kind not in KNOWN_KINDS for kind, _, _ in case["candidates"]):
        assert decode_body(decode_head(bytes.fromhex(case["payload"])), KEYS[case["subject"]].public) == record_of(case)
    else:
        assert encode(record_of(case)).hex() == case["payload"]


@cases
def test_statement_is_verified_and_ours_too(case: dict) -> None:
    subject, payload = KEYS[case["subject"]], bytes.fromhex(case["payload"])
    assert verified(bytes.fromhex(case["statement"]), subject.public) == payload
    assert verified(sign(payload, subject), subject.public) == payload


@cases
def test_blob_is_sealed_byte_for_byte(case: dict) -> None:
    place = place_of(case)
    assert place.seal(bytes.fromhex(case["statement"]), NONCE).hex() == case["blob"]
    assert place.unseal(bytes.fromhex(case["blob"])).hex() == case["statement"]


@cases
def test_text_form(case: dict) -> None:
    blob = bytes.fromhex(case["blob"])
    assert (to_text(blob), from_text(case["text"])) == (case["text"], blob)


@cases
def test_blob_is_read(case: dict) -> None:
    accepted = read(bytes.fromhex(case["blob"]), place_of(case), Marks(), case["issued"])
    assert accepted.record == replace(record_of(case), hints=case["hints"])
    assert not accepted.equivocation


def test_slot_signature() -> None:
    case, given = VECTORS["cases"][0], VECTORS["slot signature of case 1"]
    place = place_of(case)
    signature = KEYS["A"].slot_signer(place.blinding).sign(case["slot seq"], bytes.fromhex(case["blob"]))
    assert place.public.hex() == given["verifies under"]
    assert verify(place.public, bytes.fromhex(given["signed bytes"]), signature)


def judged(step: dict, asked: str, audience: Audience, marks: Marks) -> str | None:
    subject = KEYS[asked].public
    place = audience.place(subject, audience.period(subject, VECTORS["now"] * 1000))
    try:
        read(bytes.fromhex(step["blob"]), place, marks, step["now"])
    except RecordRefused as refused:
        return refused.reason
    return None


@pytest.mark.parametrize("case", VECTORS["invalid"], **NAMED)
def test_invalid(case: dict) -> None:
    audience = audience_of(case["audience"], case["asked"])
    assert judged(case, case["asked"], audience, Marks()) == case["error"]


@pytest.mark.parametrize("case", VECTORS["sequences"], **NAMED)
def test_sequence(case: dict) -> None:
    audience, marks = audience_of(case["audience"], case["asked"]), Marks()
    verdicts = [judged(step, case["asked"], audience, marks) for step in case["steps"]]
    assert verdicts == [step["error"] for step in case["steps"]]


@pytest.mark.parametrize("text", VECTORS["keys refused"].values(), ids=list(VECTORS["keys refused"]))
def test_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey) as refused:
        PublicKey.parse(text)
    assert repr(text) in str(refused.value)
