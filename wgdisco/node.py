"""One node: its key, its audiences, its stores and what it remembers, composed once for commands, API and agent."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wgdisco.audience import Audience, Place, Scope, union
from wgdisco.backend import Slot
from wgdisco.discovery import Outcome, follow, publish, require, resolve
from wgdisco.errors import AccessError, UsageError, WgdiscoError
from wgdisco.keys import PrivateKey, PublicKey
from wgdisco.plugins import build
from wgdisco.publication import Publisher, Sheet
from wgdisco.record import LIFETIME, Candidate
from wgdisco.search import Finding, Search, slot_of
from wgdisco.state import State, folder_for
from wgdisco.store import Store

__all__ = ["Node", "Publication", "now_ms", "open_node"]

MOST_PEERS = 100  # of the `peers` audience: one record for each
SLOW_LIFETIME = 21600  # seconds, where a store limits writes


def now_ms() -> int:
    """The clock: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_node(
    backends: Mapping[str, Mapping[str, object]],
    private: PrivateKey | None = None,
    networks: Sequence[bytes] = (),
    *,
    lifetime: int = LIFETIME,
    deadline: float | None = None,
    folder: Path | None = None,
    places: Mapping[str, str] | None = None,
    broken: Callable[[WgdiscoError], None] | None = None,
) -> AsyncGenerator[Node, None]:
    """A node over backends by name with their options; opened, and closed again at the end.

    `networks` are network secrets of 32 bytes, `lifetime` seconds of a record, `deadline` seconds for each call to a
    store (None: the backend's own), `folder` where state is kept (default: /var/lib/wgdisco or XDG_STATE_HOME),
    `places` where each backend was configured, for the messages. Raises
    ConfigError, PluginError or MissingExtra for a backend that cannot be built; with `broken`, that is told instead and
    the others are used, as long as there are any.
    """
    folder = folder or folder_for(os.environ, os.getuid())
    stores: list[Store] = []
    for count, (name, values) in enumerate(backends.items(), 1):
        try:
            stores.append(Store(build(name, values, folder / "cache" / name), deadline))
        except WgdiscoError as error:
            told = type(error)(f"{places[name]}: {error}") if places and name in places else error
            if broken is None or (not stores and count == len(backends)):
                raise told from error
            broken(told)
    node = Node(stores, State.open(private.public if private else None, folder), private, networks, lifetime)
    try:
        yield node
    finally:
        await node.close()


@dataclass
class Publication:
    """What one publish did: the record's times (milliseconds), its readers, and what each store made of it.

    `dropped` counts the candidates that did not fit into a store, by its name.
    """

    issued: int
    lifetime: int
    candidates: Sequence[Candidate]
    audiences: Sequence[Audience]
    outcomes: list[Outcome]
    dropped: Mapping[str, int]

    @property
    def stored(self) -> list[str]:
        """The stores that have all of it."""
        return [outcome.backend for outcome in self.outcomes if outcome.complete and outcome.asked]


class Node:
    """A WireGuard key with stores around it. `private` may be missing: then it can only resolve."""

    def __init__(
        self,
        stores: Sequence[Store],
        state: State | None,
        private: PrivateKey | None = None,
        networks: Sequence[bytes] = (),
        lifetime: int = LIFETIME,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """Take opened state and unopened stores; `networks` are network secrets, the one to publish with first."""
        self.stores, self.private, self.clock = list(stores), private, clock
        self._state = state
        self.networks = [Audience.members(secret) for secret in networks]
        slow = any(store.backend.slow_writes for store in stores)
        self.lifetime = max(lifetime, SLOW_LIFETIME) if slow and lifetime == LIFETIME else lifetime
        self._pairs: dict[PublicKey, Audience] = {}
        self._keys: dict[PublicKey, Audience] = {}

    @property
    def state(self) -> State:
        """What survives a restart."""
        if self._state is None:
            raise AccessError("this node has no state; open it with a key")
        return self._state

    # ---- who may read

    def readers(self, scope: Scope, peers: Sequence[PublicKey]) -> list[Audience]:
        """The audiences a publish speaks to; raises UsageError where the choice makes no sense."""
        private = self.signer
        if scope is Scope.KEY:
            return [self._key(private.public)]
        if scope is Scope.NETWORK:
            if not self.networks:
                raise UsageError(
                    "--to network needs the network's secret: wgdisco genkey > FILE, then --secret-file FILE"
                )
            return self.networks[:1]
        if len(peers) > MOST_PEERS:
            raise UsageError(
                f"{len(peers)} peers, and one record for each is too many (at most {MOST_PEERS}); "
                "choose --to network (with a secret all of them have) or --to key"
            )
        return [self._pair(peer) for peer in peers if peer != private.public]

    def places(self, subject: PublicKey, ahead: int = 0) -> list[Place]:
        """Everywhere a record of `subject` that we can read may lie now, the narrowest audience first.

        With `ahead` in milliseconds, everywhere it may lie until then.
        """
        audiences = [*self.networks, self._key(subject)]
        if self.private is not None and subject != self.private.public:
            audiences.insert(0, self._pair(subject))
        now = self.clock()
        return union(place for audience in audiences for place in audience.readable(subject, now, ahead))

    def scope_of(self, finding: Finding) -> Scope:
        """Which kind of audience a finding spoke to."""
        if finding.place.network == self._key(finding.record.subject).network:
            return Scope.KEY
        if any(network.network == finding.place.network for network in self.networks):
            return Scope.NETWORK
        return Scope.PEERS

    def _pair(self, peer: PublicKey) -> Audience:
        if peer not in self._pairs:
            self._pairs[peer] = Audience.peers(self.signer, peer)
        return self._pairs[peer]

    def _key(self, subject: PublicKey) -> Audience:
        if subject not in self._keys:
            self._keys[subject] = Audience.key(subject)
        return self._keys[subject]

    @property
    def signer(self) -> PrivateKey:
        """The private key; raises AccessError when there is none."""
        if self.private is None:
            raise AccessError("a private key is needed: -i INTERFACE (as root) or --private-key-file FILE")
        return self.private

    # ---- publish

    async def publish(
        self,
        candidates: Sequence[Candidate],
        audiences: Sequence[Audience],
        hints: Mapping[str, Any] | None = None,
        done: Callable[[Publication, Outcome], None] = lambda *_: None,
    ) -> Publication:
        """Sign where we are and store it everywhere; the same again within a third of the lifetime re-puts the bytes.

        Never raises for a store: the publication tells what each made of it, and `done` as soon as it is known.
        """
        publisher = Publisher(self.signer, self.state, self.clock)
        said = publisher.say(audiences, candidates, hints or {}, self.lifetime)
        sheets = publisher.sheets(audiences, said, [store.backend.max_size for store in self.stores])
        mine = {store.name: sheets[store.backend.max_size] for store in self.stores}
        self._note(mine)
        publication = Publication(
            issued=max((sheet.issued for sheet in sheets.values()), default=0),
            lifetime=self.lifetime,
            candidates=candidates,
            audiences=audiences,
            outcomes=[],
            dropped={name: sheet.dropped for name, sheet in mine.items() if sheet.dropped},
        )

        def heard(outcome: Outcome) -> None:
            publication.outcomes.append(outcome)
            done(publication, outcome)

        deposits = {name: sheet.deposits for name, sheet in mine.items()}
        publication.outcomes = await publish(self.stores, deposits, heard)
        return publication

    def _note(self, sheets: Mapping[str, Sheet]) -> None:
        """Remember, before anything leaves, which slots will hold something of ours, to remove it in the end."""
        with self.state.transaction():
            for backend, sheet in sheets.items():
                for deposit in sheet.deposits:
                    self.state.wrote(backend, deposit.slot.id, deposit.slot.public, 1000 * deposit.slot.expires)

    # ---- resolve

    async def resolve(self, subject: PublicKey, settle: float | None = 1.0) -> Search:
        """Look for the freshest record of a key in every store at once; what is found is remembered."""
        search = await resolve(self.stores, self.places(subject), self.state, self.clock, settle)
        if search.best is not None:
            self.remember(search.best)
        return search

    async def find(self, subject: PublicKey | str) -> Finding:
        """The freshest record of a key; raises NotFound or StoreError with what every store said."""
        key = PublicKey.parse(subject) if isinstance(subject, str) else subject
        return require(await self.resolve(key), key)

    def remember(self, finding: Finding) -> None:
        """Keep a finding as the last good record of its subject."""
        self.state.keep_good(finding.record.subject, finding.blob, finding.place, finding.backend, self.clock())

    async def follow(
        self, places: Sequence[Place], failed: Callable[[str, WgdiscoError], None]
    ) -> AsyncGenerator[tuple[str, Slot, list[bytes]], None]:
        """What the stores hold at these places, now and at every change."""
        async for change in follow(self.stores, [slot_of(place) for place in places], failed):
            yield change

    async def close(self) -> None:
        """Close every store and the state."""
        for store in self.stores:
            await store.close()
        if self._state is not None:
            self._state.close()
