"""Which peer of an interface is meant by what was typed: its key, or the beginning of its key."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from wgdisco.keys import PublicKey

__all__ = ["SHORTEST", "chosen", "meant"]

Key = TypeVar("Key")
SHORTEST = 4
"""Characters of a key that are taken for its beginning."""


def meant(text: str, peers: Iterable[Key]) -> list[Key]:
    """The peers whose key, as an object or as text, begins like that."""
    return [key for key in peers if str(key).startswith(text)] if len(text) >= SHORTEST else []


def chosen(text: str, peers: Collection[PublicKey], name: str) -> PublicKey:
    """The peer that is meant; raises UsageError when it is not one of the interface `name`."""
    from wgdisco.errors import InvalidKey, UsageError
    from wgdisco.keys import PublicKey

    found = meant(text, peers)
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise UsageError(f"{text!r} is the beginning of {len(found)} peers of {name}; type more of it")
    try:
        key = PublicKey.parse(text)
    except InvalidKey as error:
        raise InvalidKey(
            f"{text!r} names no peer of {name}; expected a key that `wg show {name} peers` lists, or at least "
            f"{SHORTEST} characters of its beginning"
        ) from error
    raise UsageError(
        f"{name} has no peer {key}; wgdisco never creates one. First: wg set {name} peer {key} allowed-ips ADDRESS/32"
    )
