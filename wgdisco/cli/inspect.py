"""Decode a blob as a store keeps it, and judge it by the reader's rules; nothing is remembered."""

from __future__ import annotations

import argparse
import sys
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wgdisco.audience import Audience, Place
    from wgdisco.keys import PublicKey

__all__ = ["configure", "run"]

MOST = 1 << 16  # bytes of a file that may hold a blob


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="the blob, raw or as text; - is stdin")
    parser.add_argument("--key", required=True, metavar="PUBKEY", help="the public key whose record it should be")
    parser.add_argument("--secret-file", metavar="FILE", help="a network secret as `wgdisco genkey` prints it")
    parser.add_argument("--private-key-file", metavar="FILE", help="our private key, for a record meant for us alone")
    parser.add_argument("--at", metavar="UNIXTIME", help="judge it as of this time in seconds, decimals allowed")
    parser.add_argument("--json", action="store_true", help='the record, or {"error": "REASON"}')


def run(options: argparse.Namespace) -> int:
    """Print the record, or why it is refused; 1 when it is refused."""
    from wgdisco.cli import show
    from wgdisco.errors import RecordRefused
    from wgdisco.freshness import Marks, read
    from wgdisco.keys import PublicKey

    subject = PublicKey.parse(options.key)
    now = int(time.time() * 1000) if options.at is None else _milliseconds(options.at)
    blob = _blob(options.file)
    refused = RecordRefused("unsealed", "no audience given opens it")
    for audience, place in _places(options, subject, now):
        try:
            record = read(blob, place, Marks(), now).record
        except RecordRefused as error:
            refused = error if refused.reason == "unsealed" else refused
            continue
        if options.json:
            show.print_json(show.plain_record(record, audience.scope))
        else:
            show.print_record(record, audience.scope, now)
        return 0
    if options.json:
        print(show.as_json({"version": 1, "error": refused.reason}))
    else:
        hint = "\n  a record for one peer needs --private-key-file, one of a network --secret-file"
        print(f"refused: {refused}{hint if refused.reason == 'unsealed' else ''}", file=sys.stderr)
    return 1


def _places(options: argparse.Namespace, subject: PublicKey, now: int) -> list[tuple[Audience, Place]]:
    from wgdisco.audience import Audience
    from wgdisco.cli.setting import note
    from wgdisco.keyfiles import read_network_secret, read_private_key

    audiences = [Audience.key(subject)]
    if options.secret_file:
        audiences.append(Audience.members(read_network_secret(Path(options.secret_file), note)))
    if options.private_key_file:
        audiences.append(Audience.peers(read_private_key(Path(options.private_key_file)), subject))
    return [(audience, place) for audience in audiences for place in audience.readable(subject, now)]


def _milliseconds(text: str) -> int:
    from wgdisco.errors import UsageError

    try:
        moment = Decimal(text)
    except InvalidOperation:
        moment = Decimal(-1)
    if not (moment.is_finite() and 0 <= moment < 10**11):
        raise UsageError(f"--at {text!r}: expected a unix time in seconds, as 1795233600 or 1795233600.25")
    return int(moment * 1000)


def _blob(name: str) -> bytes:
    """The blob in a file, raw or in the text form; foreign text is returned as it is, to be refused as malformed."""
    from wgdisco.backend import from_text
    from wgdisco.errors import UsageError

    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as source:
            raw = source.read(MOST)
    except OSError as error:
        raise UsageError(f"cannot read {name!r}: {error.strerror or error}") from error
    if raw.startswith(b"wgd1."):
        decoded = from_text(raw.decode("ascii", "replace").strip())
        return b"" if decoded is None else decoded
    return raw
