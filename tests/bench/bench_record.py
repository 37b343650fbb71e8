"""How fast records are signed, sealed, read and stamped, on one core, and how large their blobs are."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from wgdisco.audience import Audience
from wgdisco.endpoint import Endpoint
from wgdisco.freshness import Marks, read
from wgdisco.keys import PrivateKey, PublicKey
from wgdisco.record import Candidate, Kind, Record, encode, sign
from wgdisco.state import State

NOW = 1_795_233_600_000
SECONDS = 0.5  # of each measurement; the best of three counts
ALICE, BOB = PrivateKey(b"a" * 32), PrivateKey(b"b" * 32)
NET = Audience.members(b"s" * 32)


def per_second(work: Callable[[], object]) -> float:
    best = 0.0
    for _ in range(3):
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < SECONDS:
            for _ in range(20):
                work()
            done += 20
        best = max(best, done / spent)
    return best


def candidates(number: int, versions: str) -> tuple[Candidate, ...]:
    texts = {"4": "203.0.113.{}", "6": "2001:db8:1:2:3:4:5:{:x}"}
    return tuple(
        Candidate(Kind.SERVER_REFLEXIVE, Endpoint(ip_address(texts[versions[i % len(versions)]].format(i + 1)), 51820))
        for i in range(number)
    )


def record(number: int = 3, versions: str = "46", hints: bool = True) -> Record:
    said = {"checks": True, "nat": ["endpoint-independent", "address-and-port-dependent"], "instance": b"12345678"}
    return Record(
        subject=ALICE.public,
        network=NET.network,
        issued=NOW,
        candidates=candidates(number, versions),
        hints=said if hints else {},
    )


def reading() -> dict[str, Callable[[], object]]:
    place = NET.place(ALICE.public, NET.period(ALICE.public, NOW))
    payload, private, raw = encode(record()), bytes(range(32)), BOB.public.raw
    statement = sign(payload, ALICE)
    blob, garbage, marks = place.seal(statement), b"\x01" + os.urandom(400), Marks()
    cold, signer = iter(range(10**9)), ALICE.slot_signer(place.blinding)

    def refused() -> None:
        try:
            read(garbage, place, marks, NOW)
        except Exception:  # noqa: BLE001 - what it costs is the question
            return

    return {
        "encode and sign": lambda: sign(encode(record()), ALICE),
        "seal": lambda: place.seal(statement),
        "slot signature": lambda: signer.sign(NOW, blob),
        "read (unseal, verify, judge, decode), caches warm": lambda: read(blob, place, marks, NOW),
        "refuse garbage": refused,
        "slot of a new period": lambda: NET.place(ALICE.public, next(cold)),
        "private key": lambda: PrivateKey(private),
        "public key, known": lambda: PublicKey(raw),
        "pair secret": lambda: Audience.peers(ALICE, BOB.public),
    }


def states(folder: Path) -> None:
    state = State.open(ALICE.public, folder)
    peers = [PrivateKey(number.to_bytes(32, "big")).public for number in range(10_000)]
    marks = Marks()
    marks.add(NOW).digests[NET.network] = bytes(32)
    number = iter(range(10**9))
    rates = {
        f"stamp, durable (fsync in {folder.parent})": per_second(lambda: state.stamp(NOW)),
        "remember, each in a commit": per_second(lambda: state.remember(peers[next(number) % 10_000], marks)),
        "marks of a peer": per_second(lambda: state.marks(peers[0])),
    }
    for name, rate in rates.items():
        print(f"  {rate:10,.0f}/s  {name}")
    marks.add(NOW + 1).digests[NET.network] = bytes(32)
    start = time.perf_counter()
    with state.transaction():
        for peer in peers:
            state.remember(peer, marks)
    print(f"  {time.perf_counter() - start:10.2f} s  remember 10,000 peers in one commit")
    state.close()


def main() -> int:
    print("one core, operations per second:")
    rates = {name: per_second(work) for name, work in reading().items()}
    for name, rate in rates.items():
        print(f"  {rate:10,.0f}/s  {name}")
    print("state:")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        states(Path(folder))
    print("bytes of a blob:  candidates        1    3    6   16")
    place = NET.place(ALICE.public, NET.period(ALICE.public, NOW))
    for name, versions in (("IPv4", "4"), ("IPv4 and IPv6 in turn", "46"), ("IPv6", "6")):
        for hints in (False, True):
            sizes = [len(place.seal(sign(encode(record(number, versions, hints)), ALICE))) for number in (1, 3, 6, 16)]
            shown = " ".join(f"{size:4}" for size in sizes)
            print(f"  {name + (', with hints' if hints else ''):34} {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
