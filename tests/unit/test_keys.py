"""WireGuard keys and XEdDSA: what is refused, what libxeddsa and other verifiers say, and what never leaks."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import random
import shutil
import subprocess
from base64 import b64encode

import pytest
import xeddsa
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings as sodium

from tests.unit.records import ALICE, BOB
from wgdisco.errors import InvalidKey
from wgdisco.keys import P, PrivateKey, PublicKey, blind, verify

ORDER = 2**252 + 27742317777372353535851937790883648493
RANDOM = random.Random(1)
MANY = [PrivateKey(RANDOM.randbytes(32)) for _ in range(40)]
raw_keys = st.binary(min_size=32, max_size=32)

# made by another implementation, checked with libxeddsa, one key of each sign; its nonce leaves the public key out
FIXED = [
    (
        "LK7zsluJNHmPvI01/fMIjD3EB432sp0u9Zemhh0qRdQ=",
        "oe6FM8NjwcJT7HCP/Re10QLduqVjq3R6FXvo+DYnxls=",
        "138cb91ca4c96b404df88a9cd04f4308f2a9af1e88566d13d69b8d41fb93807d",
        "10cbc708dcb62f8a5e5711cd94f63be7cefc5df5dad5add2a1b35bbdbf31df83289c57ce6cc8223944d43c47e6df3e644cf22106c90d66afacab2fc4a3368309",
    ),
    (
        "lHGpWaYW67/v4uUWXqDNpPWOWVsrU2xoJ6wpoaMRX5Q=",
        "CvfDkE9ibLnkNQdCxl4kcxvBMQEB/nkJZ+sfVY0C/j8=",
        "2d4c0fddeb8d167e9b5c063aba06e4504f286213995b6d4c9a27525d036b8148",
        "6aa5822bd3fe7d18e20c57c0fe274054f89b017461831053a9c1e44357ef00402da756b66c449e54fc96fdbbaffa5fe8fe6640ed8b7eb5345083af6603b9d50b",
    ),
]


def raw_sign(private: PrivateKey, message: bytes) -> bytes:
    """What only the module itself may do: sign any bytes."""
    from wgdisco.keys import _xeddsa

    return _xeddsa(private._scalar, private.public.edwards, message)


# ---- against other implementations


@pytest.mark.parametrize(("private", "public", "edwards", "signature"), FIXED, ids=["sign 1", "sign 0"])
def test_signatures_of_the_prototype_verify(private, public, edwards, signature) -> None:
    key = PrivateKey.parse(private)
    assert (str(key.public), key.public.edwards.hex()) == (public, edwards)
    assert verify(key.public.edwards, b"wgdisco", bytes.fromhex(signature))


@pytest.mark.parametrize("private", [each[0] for each in FIXED], ids=["sign 1", "sign 0"])
def test_signature_is_that_of_the_formula(private, monkeypatch) -> None:
    """SPEC section 1 in plain integers: r = H(0xFE | 0xFF x 31 | x | X | M | Z), S = r + H(R | X | M) x."""
    random = bytes(range(64))
    monkeypatch.setattr(os, "urandom", lambda size: random[:size])
    key, message = PrivateKey.parse(private), b"wgdisco"
    scalar = int.from_bytes(key._clamped, "little") % ORDER
    if sodium.crypto_scalarmult_ed25519_base_noclamp(little(scalar))[31] & 128:
        scalar = ORDER - scalar
    nonce = hashed(b"\xfe" + b"\xff" * 31 + little(scalar) + key.public.edwards + message + random)
    commitment = sodium.crypto_scalarmult_ed25519_base_noclamp(little(nonce))
    response = (nonce + hashed(commitment + key.public.edwards + message) * scalar) % ORDER
    assert raw_sign(key, message) == commitment + little(response)


def hashed(data: bytes) -> int:
    return int.from_bytes(hashlib.sha512(data).digest(), "little") % ORDER


def test_edwards_form_is_that_of_libxeddsa() -> None:
    for key in MANY:
        assert xeddsa.curve25519_pub_to_ed25519_pub(key.public.raw, set_sign_bit=False) == key.public.edwards
        assert xeddsa.ed25519_pub_to_curve25519_pub(key.public.edwards) == key.public.raw


def test_libxeddsa_verifies_what_we_sign() -> None:
    for number, key in enumerate(MANY):
        message = RANDOM.randbytes(number * 5)
        assert xeddsa.ed25519_verify(raw_sign(key, message), key.public.edwards, message)


def test_we_verify_what_libxeddsa_signs() -> None:
    """libxeddsa neither clamps nor fixes the sign by itself: the caller has to."""
    for number, key in enumerate(MANY):
        message = RANDOM.randbytes(number * 5)
        scalar = xeddsa.priv_force_sign(key._clamped, set_sign_bit=False)
        assert verify(key.public.edwards, message, xeddsa.ed25519_priv_sign(scalar, message))


def test_both_signs_occur_among_the_keys_tried() -> None:
    signs = {sodium.crypto_core_ed25519_scalar_reduce(key._clamped + bytes(32)) == key._scalar for key in MANY}
    assert signs == {True, False}


def test_any_ed25519_verifier_accepts_a_slot_signature() -> None:
    from nacl.signing import VerifyKey

    signer = ALICE.slot_signer(bytes([7] * 31 + [0]))
    signature = signer.sign(42, b"value")
    VerifyKey(signer.public).verify(b"3:seqi42e1:v5:value", signature)


@pytest.mark.skipif(shutil.which("wg") is None, reason="wg is not installed")
def test_public_key_is_the_one_wg_computes() -> None:
    for key in MANY[:3]:
        text = b64encode(key._clamped)
        done = subprocess.run(["wg", "pubkey"], input=text, capture_output=True, check=True)
        assert done.stdout.decode().strip() == str(key.public)


def test_agreement_is_symmetric_and_that_of_libxeddsa() -> None:
    assert ALICE.agree(BOB.public) == BOB.agree(ALICE.public) == xeddsa.x25519(ALICE._clamped, BOB.public.raw)


# ---- public keys


def little(number: int) -> bytes:
    return number.to_bytes(32, "little")


LOW_ORDER = {
    "order 8, first": "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "order 8, second": "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
}
REFUSED = {
    "u = 0": little(0),
    "u = 1": little(1),
    "u = -1": little(P - 1),
    "u = p": little(P),
    "u = p + 1": little(P + 1),
    "u = p + 9, another spelling of the base point": little(P + 9),
    "all ones": b"\xff" * 32,
    "the twist": little(2),
    **{name: bytes.fromhex(text) for name, text in LOW_ORDER.items()},
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=list(REFUSED))
def test_public_key_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidKey):
        PublicKey(raw)


def with_torsion(edwards: bytes) -> bytes:
    """The u of an honest point plus the point of order 2, (0, -1): of mixed order."""
    point = sodium.crypto_core_ed25519_add(edwards, (P - 1).to_bytes(32, "little"))
    y = int.from_bytes(point, "little") & ((1 << 255) - 1)
    return little((1 + y) * pow(1 - y, -1, P) % P)


def test_key_with_torsion_is_refused() -> None:
    """X25519 gives the same secret for it, so it would be a second spelling of a node."""
    raw = with_torsion(ALICE.public.edwards)
    assert sodium.crypto_scalarmult(BOB._clamped, raw) == BOB.agree(ALICE.public)
    with pytest.raises(InvalidKey, match="prime-order group"):
        PublicKey(raw)


def test_bit_255_makes_another_spelling() -> None:
    raw = bytearray(ALICE.public.raw)
    raw[31] |= 128
    with pytest.raises(InvalidKey, match="another spelling"):
        PublicKey(bytes(raw))


@given(raw_keys)
def test_every_honest_key_passes(raw: bytes) -> None:
    public = PrivateKey(raw).public
    assert PublicKey(public.raw) == public == PublicKey.parse(str(public))


@given(raw_keys)
def test_any_32_bytes_are_a_key_or_refused(raw: bytes) -> None:
    """Of the random ones about one in 32 is the point of some key."""
    try:
        assert sodium.crypto_core_ed25519_is_valid_point(PublicKey(raw).edwards)
    except InvalidKey as refused:
        assert b64encode(raw).decode() in str(refused)  # noqa: PT017 - most are refused, some are keys


@given(st.text() | st.binary(max_size=40).map(lambda raw: b64encode(raw).decode()))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        assert str(PublicKey.parse(text)) == text
    except InvalidKey as refused:
        assert repr(text) in str(refused)  # noqa: PT017 - the same


GOOD = str(ALICE.public)
SPELLINGS = {
    "empty": "",
    "a blank in front": " " + GOOD,
    "a newline after": GOOD + "\n",
    "a newline inside": GOOD[:20] + "\n" + GOOD[20:],
    "no padding": GOOD[:-1],
    "twice the padding": GOOD + "=",
    "text after the padding": GOOD + "AAAA",
    "hexadecimal": ALICE.public.raw.hex(),
    "full-width digits": GOOD.replace(GOOD[0], "\uff11", 1),
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=list(SPELLINGS))
def test_one_key_has_one_spelling(text: str) -> None:
    with pytest.raises(InvalidKey) as refused:
        PublicKey.parse(text)
    assert "expected 44 characters of base64, as `wg pubkey` prints them" in str(refused.value)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_wrong_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidKey, match=f"has {size}"):
        PublicKey(bytes(size))
    with pytest.raises(InvalidKey, match=f"has {size}"):
        PrivateKey(bytes(size))


def test_public_keys_compare_as_bytes() -> None:
    assert sorted([ALICE.public, BOB.public]) == sorted([ALICE.public, BOB.public], key=lambda key: key.raw)
    assert len({ALICE.public, PublicKey(ALICE.public.raw), BOB.public}) == 2
    assert ALICE.public != ALICE.public.raw


# ---- signatures


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_of_signature_message_or_key_verifies() -> None:
    message = b"where I am"
    signature = raw_sign(ALICE, message)
    assert verify(ALICE.public.edwards, message, signature)
    assert not [bit for bit in range(512) if verify(ALICE.public.edwards, message, flipped(signature, bit))]
    assert not [bit for bit in range(80) if verify(ALICE.public.edwards, flipped(message, bit), signature)]
    assert not [bit for bit in range(256) if verify(flipped(ALICE.public.edwards, bit), message, signature)]


@pytest.mark.parametrize("multiple", range(1, 16))
def test_second_spelling_of_a_signature_is_refused(multiple: int) -> None:
    """S + L, which DHT nodes and the text of XEdDSA accept: signature bytes would be malleable."""
    signature = raw_sign(ALICE, b"m")
    response = int.from_bytes(signature[32:], "little") + multiple * ORDER
    if response < 2**256:
        assert not verify(ALICE.public.edwards, b"m", signature[:32] + little(response))


SMALL_POINTS = {
    "order 1": little(1),
    "order 2": little(P - 1),
    "order 4": little(0),
    "order 8": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
}


@pytest.mark.parametrize("point", SMALL_POINTS.values(), ids=list(SMALL_POINTS))
def test_forgery_without_any_key_is_refused(point: bytes) -> None:
    """R = sB and a key of low order: other verifiers accept this for any message when h is 0 modulo 8."""
    for number in range(1, 40):
        response = little(number)
        forged = sodium.crypto_scalarmult_ed25519_base_noclamp(response) + response
        assert not verify(point, b"any message %d" % number, forged)


def test_r_with_torsion_is_refused() -> None:
    """A cofactored verifier would accept it, and two verifiers would disagree."""
    key, message = ALICE, b"m"
    nonce = little(12345)
    commitment = sodium.crypto_core_ed25519_add(sodium.crypto_scalarmult_ed25519_base_noclamp(nonce), little(P - 1))
    challenge = hashed(commitment + key.public.edwards + message)
    response = (12345 + challenge * int.from_bytes(key._scalar, "little")) % ORDER
    assert not verify(key.public.edwards, message, commitment + little(response))


@pytest.mark.parametrize("size", [0, 63, 65, 128])
def test_signature_of_another_length_is_refused(size: int) -> None:
    assert not verify(ALICE.public.edwards, b"m", (raw_sign(ALICE, b"m") * 2)[:size])


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_no_signature(message: bytes, signature: bytes) -> None:
    assert not verify(ALICE.public.edwards, message, signature)


def test_broken_random_numbers_do_not_repeat_a_nonce(monkeypatch) -> None:
    """Two messages under one R would give the key away; the nonce is hedged with the key and the message (T27)."""
    monkeypatch.setattr(os, "urandom", bytes)
    messages = [b"one", b"two", b"", b"one\0"]
    assert len({raw_sign(ALICE, message)[:32] for message in messages}) == len(messages)
    assert raw_sign(ALICE, b"one")[:32] != raw_sign(BOB, b"one")[:32]
    signer = ALICE.slot_signer(little(5))
    assert len({signer.sign(1, b"v")[:32], signer.sign(2, b"v")[:32], raw_sign(ALICE, b"3:seqi1e1:v1:v")[:32]}) == 3


def test_signatures_are_randomised() -> None:
    assert raw_sign(ALICE, b"m") != raw_sign(ALICE, b"m")


# ---- what a signature is for


def test_a_signature_of_one_domain_is_none_of_another() -> None:
    signature = ALICE.sign("wgdisco record v1", b"payload")
    assert verify(ALICE.public.edwards, b"wgdisco record v1\0payload", signature)
    others = [b"payload", b"wgdisco record v1payload", b"wgdisco record v2\0payload", b"wgdisco revoke v1\0payload"]
    assert not [message for message in others if verify(ALICE.public.edwards, message, signature)]


@pytest.mark.parametrize(
    "domain", ["", "3:seqi1e1:v", "4:salt", "wgdisco", "WGDISCO record v1", "wgdisco record v1\0", " wgdisco "]
)
def test_foreign_domains_are_not_signed(domain: str) -> None:
    with pytest.raises(ValueError, match="does not begin with 'wgdisco '"):
        ALICE.sign(domain, b"payload")


@given(st.integers(0, 2**63), st.binary(max_size=100))
def test_a_slot_signer_signs_the_buffer_of_bep44_only(seq: int, value: bytes) -> None:
    signer = ALICE.slot_signer(little(99))
    assert verify(signer.public, f"3:seqi{seq}e1:v{len(value)}:".encode() + value, signer.sign(seq, value))
    assert [name for name in dir(signer) if not name.startswith("_")] == ["public", "sign"]


def test_a_slot_signature_does_not_verify_under_the_identity() -> None:
    signature = ALICE.slot_signer(little(99)).sign(1, b"v")
    assert not verify(ALICE.public.edwards, b"3:seqi1e1:v1:v", signature)


@given(st.integers(1, ORDER - 1))
def test_the_signer_signs_for_the_slot_that_readers_compute(scalar: int) -> None:
    blinding = little(scalar)
    assert ALICE.slot_signer(blinding).public == blind(blinding, ALICE.public.edwards)


# ---- what must not leak


def traces(secret: bytes) -> list[str]:
    return [
        secret.hex(),
        repr(secret)[2:-1],
        b64encode(secret).decode().rstrip("="),
        str(int.from_bytes(secret, "little")),
    ]


def shown(key: object) -> str:
    return f"{key!r} {key!s} {key:} {[key]} {[name for name in dir(key) if not name.startswith('_')]}"


@pytest.mark.parametrize("key", [ALICE, ALICE.slot_signer(little(5))], ids=["private key", "slot signer"])
def test_nothing_secret_is_shown(key) -> None:
    secrets = [ALICE._clamped, ALICE._scalar, key._scalar, b"a" * 32]
    assert not [trace for secret in secrets for trace in traces(secret) if trace in shown(key)]


@pytest.mark.parametrize("key", [ALICE, ALICE.slot_signer(little(5))], ids=["private key", "slot signer"])
def test_nothing_secret_is_serialised(key) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="is not serialised"):
            pickle.dumps(key, protocol)
    for attempt in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="is not serialised"):
            attempt(key)
    with pytest.raises(TypeError):
        vars(key)


@pytest.mark.parametrize(
    "text", ["c2VjcmV0IG1hdGVyaWFs", "secret material", b64encode(b"secret material").decode() * 3]
)
def test_errors_never_quote_a_private_key(text: str) -> None:
    with pytest.raises(InvalidKey) as refused:
        PrivateKey.parse(text)
    told = f"{refused.value} {refused.value.__cause__} {refused.value.__context__ if not refused.value.__suppress_context__ else ''}"
    assert "secret" not in told
    assert text not in told


def test_generated_keys_differ() -> None:
    assert PrivateKey.generate().public != PrivateKey.generate().public
