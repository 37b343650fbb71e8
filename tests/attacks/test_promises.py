"""The nine promises of README.md, each at the highest level that runs without the lab.

Promises 1 and 7 are also kept on real WireGuard behind real NATs: tests/lab/test_pairs.py, `test_a_live_session_is_left_alone`
and `test_interrupting_it_leaves_the_peer_as_it_was`; what one lie of a store can do is in test_lying_stores.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from base64 import b32encode, b64encode, urlsafe_b64encode
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wgdisco.cli.connect
import wgdisco.cli.publish
from tests.attacks.scene import FIRST, HOUR, SECOND, THIRD, Scene, Tunnel, growth, liar, shelf
from tests.attacks.virtual import virtually
from tests.unit.records import ALICE, BOB, MALLORY, NOW, W, candidate, here, record
from wgdisco.agent import Agent
from wgdisco.audience import Audience, Scope, _hash
from wgdisco.backend import Backend, from_text
from wgdisco.backends.folder import Folder
from wgdisco.cli.main import main
from wgdisco.cli.setting import Setting
from wgdisco.config import Config
from wgdisco.connect import UNKNOWN, Attempt
from wgdisco.device import Peer
from wgdisco.device.routes import Route
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, NoDevice, NotFound, RecordRefused, UsageError
from wgdisco.footing import Means
from wgdisco.link import Link
from wgdisco.outlook import Ours
from wgdisco.policy import Ground
from wgdisco.record import Kind, encode, sign
from wgdisco.search import Search, slot_of
from wgdisco.seek import Seeker
from wgdisco.sources import Found, Where
from wgdisco.tend import Tender
from wgdisco.testing import LIES

ELSEWHERE = Endpoint.parse("192.0.2.9:9")
PUBLISHED = ("192.0.2.7:51820", "[2001:db8:77::7]:51820")
DAY = 86_400_000
NETWORK = b"n" * 32


@pytest.fixture
async def scene(tmp_path):
    made = Scene(tmp_path)
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch) -> None:
    """A host with state of its own, a route to everywhere and no raw sockets: nothing leaves this test."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "own"))
    monkeypatch.setattr("wgdisco.device.list_devices", list)
    monkeypatch.setattr("wgdisco.config.FOLDER", tmp_path / "etc")
    monkeypatch.setattr(wgdisco.cli.connect, "open_port", no_port)
    monkeypatch.setattr("wgdisco.device.routes.Routes", Everywhere)


async def no_port(*_) -> None:
    return None


class Everywhere:
    """Routes of a host with one uplink."""

    def lookup(self, address, mark=0) -> Route:
        return Route("eth0", ip_address("198.51.100.1"), on_link=False)

    def close(self) -> None:
        """A lookup needs no socket."""


@pytest.fixture
def store(tmp_path) -> Path:
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


def typed(command, device: Tunnel, *words: str) -> Setting:
    """What a command makes of its words, with a device of ours."""
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return Setting(parser.parse_args(words), Config(), device, device.read(), device.own)


def connecting(device: Tunnel, store: Path, *words: str):
    options = ["-b", "folder", "-o", f"path={store}", "-e", PUBLISHED[0]]
    return wgdisco.cli.connect._connect(typed(wgdisco.cli.connect, device, str(device.peer.key), *options, *words))


class Tending:
    """Looks for the tunnel's peer and connects, without a port to punch from."""

    def __init__(self, node, tunnel: Tunnel, heard: list[str] | None = None, nat=UNKNOWN) -> None:
        self.peer, say = tunnel.peer.key, ([] if heard is None else heard).append
        ours = Ours(lambda: Ground(Everywhere().lookup), tuple, lambda: nat)
        ours.ready.set()
        self.link = Link(tunnel, None, self.peer, lambda _: None)
        self.tender = Tender(node, self.link, ours, say)
        self.seeker = Seeker(node, [self.peer], lambda _, finding: self.tender.outlook.take(finding), say)

    @property
    def search(self):
        return self.seeker.searches[self.peer]

    async def run(self) -> float:
        async with running(self.seeker.run()):
            return await self.tender.connect()


@asynccontextmanager
async def running(work):
    """Something that runs beside the test and is cancelled at its end, as SIGTERM does it."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition, what: str) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


class Running:
    """The agent on a tunnel of ours, with stores of ours and no raw socket; `said` is everything it says and echoes."""

    def __init__(self, scene: Scene, tunnel: Tunnel, monkeypatch, *backends: Backend) -> None:
        self.scene, self.tunnel, self.backends, self.said = scene, tunnel, backends, []
        self.there, self.trouble, self.sources = True, None, []
        monkeypatch.setattr("wgdisco.agent.open_device", self.open)
        monkeypatch.setattr("wgdisco.agent.WAIT", 0.01)
        monkeypatch.setattr("wgdisco.agent.GONE", 0.0)
        monkeypatch.setattr("wgdisco.look.LOOK", 0.02)
        monkeypatch.setattr("wgdisco.supervise.FIRST_PAUSE", 0.01)
        monkeypatch.setattr("wgdisco.footing.WireGuardPort", self.no_port)
        monkeypatch.setattr("wgdisco.session.Routes", Everywhere)
        self.agent = Agent("wg9", self.prepare, self.said.append, self.said.append, scene.folder / "run")

    def open(self, _name: str):
        if not self.there:
            raise NoDevice("there is no interface wg9")
        return self

    name = "wg9"

    def read(self):
        return self.open("").tunnel.read()

    def update(self, changes) -> None:
        self.tunnel.update(changes)

    def restart_peer(self, *what, since=None) -> None:
        self.tunnel.restart_peer(*what)

    def no_port(self, *_, **__):
        raise AccessError("no raw socket here")

    def prepare(self, _interface) -> Means:
        return Means(self.node, lambda *_: self.sources, self.gather, Scope.PEERS)

    def gather(self, _sources):
        async def ask(_thorough) -> Where:
            if self.trouble is not None:
                await TROUBLES[self.trouble]()
            return Where([Found(Endpoint.parse(PUBLISHED[0]), Kind.SERVER_REFLEXIVE, "test")])

        return ask

    @asynccontextmanager
    async def node(self, _interface, _broken):
        yield self.scene.node(self.tunnel.own, *self.backends)

    def run(self):
        return running(self.agent.run())

    async def sessions(self, number: int) -> None:
        """Wait until the agent has begun so many of them."""
        await until(lambda: self.begun >= number and self.agent.session, f"{self.said}")

    @property
    def begun(self) -> int:
        return sum("port 51820" in each for each in self.said)


async def found_by(scene: Scene, good: Backend) -> None:
    """Alice has published for Bob."""
    alice = scene.node(ALICE, good)
    await alice.publish(FIRST, alice.readers(Scope.PEERS, [BOB.public]))


def live(**fields) -> Peer:
    return Peer(ALICE.public, endpoint=ELSEWHERE, handshake=time.time() - 100, **fields)


# ---- 1. a working tunnel is never worsened


async def test_promise_1_connect_leaves_a_live_tunnel_alone(store, capsys) -> None:
    tunnel = Tunnel(BOB, live(keepalive=7))
    assert await connecting(tunnel, store) == 0
    assert capsys.readouterr().out == f"connected already: {ALICE.public.short} at {ELSEWHERE}\n"
    assert (tunnel.calls, list(store.iterdir())) == ([], [])


async def test_promise_1_no_record_moves_a_live_tunnel(scene) -> None:
    """Even a genuine, newer record that names other endpoints."""
    good = shelf()
    alice = scene.node(ALICE, good)
    await alice.publish(FIRST, alice.readers(Scope.KEY, []))
    tunnel = Tunnel(BOB, live())
    tending = Tending(scene.node(BOB, good), tunnel)
    async with running(tending.run()):
        await until(lambda: tending.tender.tried, "the record was not found")
        attempt = Attempt(tending.link, [each.endpoint for each in SECOND], initiate=True)
        async with running(attempt.run()):
            await until(lambda: attempt.fired > 1, "nothing was tried")
    assert tunnel.calls == []


async def test_promise_1_a_tunnel_that_came_up_meanwhile_is_left_alone(scene) -> None:
    tunnel = Tunnel(BOB, Peer(ALICE.public))
    link = Link(tunnel, None, ALICE.public, lambda _: None)
    tunnel.peer = replace(tunnel.peer, endpoint=ELSEWHERE, handshake=time.time())
    link.fire(FIRST[0].endpoint)
    assert tunnel.calls == []


async def test_promise_1_the_agent_leaves_a_live_tunnel_alone(scene, monkeypatch) -> None:
    """Although its record names other endpoints."""
    good = shelf()
    await found_by(scene, good)
    tunnel = Tunnel(BOB, live(keepalive=7))
    agent = Running(scene, tunnel, monkeypatch, good)
    async with agent.run():
        await agent.sessions(1)
        [tender] = agent.agent.session.tenders.values()
        await until(lambda: tender.guard.examined is not None or tender.outlook.latest, "no record was found")
        await asyncio.sleep(1.5)
        assert tender.state == "connected"
    assert tunnel.calls == []


# ---- 2. no store content makes us use an endpoint its owner did not sign, or an older one than seen


class Forger(Backend):
    """Serves what Mallory, who knows Alice's public key, can make: forgeries, an old record, and one sealed anew."""

    name = "forger"

    def __init__(self, *old: bytes) -> None:
        said, place = record(audience=OPEN, candidates=THIRD), here(OPEN)
        forged = [place.seal(sign(encode(each), MALLORY)) for each in (said, replace_issued(said, NOW + 200_000))]
        future = place.seal(sign(encode(replace_issued(said, NOW + 2 * W)), ALICE))
        self.values = [*forged, future, *old, *(place.seal(place.unseal(each)) for each in old)]

    async def get(self, slot) -> list[bytes]:
        return self.values


OPEN = Audience.key(ALICE.public)


def replace_issued(said, issued: int):
    return record(issued, OPEN, candidates=said.candidates)


async def test_promise_2_only_the_owners_newest_endpoints_reach_the_tunnel(scene) -> None:
    good = shelf()
    alice, bob = scene.node(ALICE, good), scene.node(BOB, good)
    await alice.publish(FIRST, alice.readers(Scope.KEY, []))
    old = [value for value, _ in good._room.values.values()]
    scene.clock.now += 1000
    await alice.publish(SECOND, alice.readers(Scope.KEY, []))
    await bob.find(ALICE.public)
    await bob.close()  # what it has seen outlives the process
    tunnel = Tunnel(BOB, Peer(ALICE.public), THIRD[0].endpoint, FIRST[0].endpoint)
    forger = Forger(*old)
    alone = Tending(scene.node(BOB, forger), tunnel)
    async with running(alone.run()):
        await until(lambda: alone.search and alone.search.answers, "the forger was not asked")
        refused = alone.search.answers["forger"].refused
        await until(lambda: refused.total() == 10, "not all was judged")  # in the pair's slot, and in everybody's
        assert refused == {"signature": 2, "future": 1, "rollback": 2, "unsealed": 5}
        assert list(alone.search.best.record.candidates) == SECOND  # what it has seen, and not the store's
    assert tunnel.endpoints <= {SECOND[0].endpoint}
    tunnel = Tunnel(BOB, Peer(ALICE.public), THIRD[0].endpoint, FIRST[0].endpoint)
    both = Tending(scene.node(BOB, forger, good), tunnel)
    async with running(both.run()):
        await until(lambda: tunnel.calls, "nothing was tried")
        await asyncio.sleep(0.1)
    assert tunnel.endpoints == {SECOND[0].endpoint}


async def test_promise_2_a_repeated_equivocation_does_not_bring_back_what_is_older(scene) -> None:
    """Alice's key said two things at one time, then something newer; a store says the second thing again."""
    two = [here(OPEN).seal(sign(encode(record(NOW - 5000, OPEN, candidates=each)), ALICE)) for each in (FIRST, SECOND)]
    newest = here(OPEN).seal(sign(encode(record(NOW, OPEN, candidates=THIRD)), ALICE))
    reader = scene.stranger(shelf())
    for first, second in (two, two[::-1]):
        search = Search(reader.places(ALICE.public), scene.node(None, state=first.hex()[:20]).state, scene.clock)
        for values in ([first], [second], [newest], [second]):
            search.judge("store", slot_of(here(OPEN)), values)
        assert list(search.best.record.candidates) == THIRD


# ---- 3. a stale record shows as stale


def test_promise_3_a_stale_record_shows_as_stale(tmp_path, store, capsys, monkeypatch) -> None:
    key = key_file(tmp_path)
    options = ["-b", "folder", "-o", f"path={store}"]
    clock = time.time_ns()
    monkeypatch.setattr("wgdisco.node.time.time_ns", lambda: clock)
    assert main(["publish", "--private-key-file", key, "--to", "key", "-e", PUBLISHED[0], *options]) == 0
    clock += (3600 + 299) * 10**9
    capsys.readouterr()
    assert main(["resolve", str(ALICE.public), *options]) == 0
    assert "  expired: 4 minutes, 59 seconds ago\n" in capsys.readouterr().out
    assert main(["resolve", str(ALICE.public), "--short", *options]) == 0
    assert "this record expired 4 minutes, 59 seconds ago" in capsys.readouterr().err
    clock += 2 * 10**9
    assert main(["resolve", str(ALICE.public), *options]) == 1
    told = capsys.readouterr()
    assert (told.out, "folder: refused: 1 expired" in told.err) == ("", True)


def key_file(tmp_path: Path) -> str:
    path = tmp_path / "private.key"
    path.write_text(b64encode(b"a" * 32).decode() + "\n")
    path.chmod(0o600)
    return str(path)


# ---- 4. one honest, reachable backend is enough


@settings(max_examples=25)
@given(st.lists(st.sampled_from(list(LIES)), unique=True), st.randoms())
def test_promise_4_one_honest_store_is_enough(lies: list[str], chance) -> None:
    """Whichever lies stand beside it, in any order: published once, changed once, the newest record is found."""

    async def found(folder: Path) -> list:
        scene, stores = Scene(folder), [*map(liar, lies), shelf()]
        chance.shuffle(stores)
        alice = scene.node(ALICE, *stores)
        for candidates in (FIRST, SECOND):
            await alice.publish(candidates, alice.readers(Scope.PEERS, [BOB.public]))
            scene.clock.now += 1000
        try:
            return list((await scene.node(BOB, *stores, patience=0.1).find(ALICE.public)).record.candidates)
        finally:
            await scene.close()

    with tempfile.TemporaryDirectory() as folder:
        assert virtually(found(Path(folder))) == SECOND


# ---- 5. memory, CPU and packets are bounded whatever a store does


class Echoes(Backend):
    """Pushes the genuine record again and again, each time sealed anew, as whoever may read it can."""

    name = "echoes"

    def __init__(self, blob: bytes) -> None:
        self.statement = here(OPEN).unseal(blob)

    async def follow(self, slots):
        while True:
            for slot in slots:
                yield slot, [here(OPEN).seal(self.statement)] if slot.id == here(OPEN).id else []
            await asyncio.sleep(0.1)


async def tried_in_vain(folder: Path, *, echoing: bool, insisting: bool) -> tuple[int, int, int]:
    """Five minutes of trying a peer that never answers: changes of the tunnel, findings told, plans announced."""
    random.seed(0)  # the pauses between two tries are uneven
    scene, good = Scene(folder), shelf()
    alice = scene.node(ALICE, good)
    await alice.publish(FIRST, alice.readers(Scope.KEY, []))
    store = Echoes(next(value for value, _ in good._room.values.values())) if echoing else good
    tunnel, heard, told = Tunnel(BOB, Peer(ALICE.public)), [], []
    # with this NAT it is we who start, at once
    tending = Tending(scene.node(BOB, store), tunnel, heard, ("address-dependent", "address-dependent"))
    take = tending.tender.outlook.take
    tending.seeker.found = lambda _, finding: (told.append(finding), take(finding))
    async with running(tending.run()):
        for _ in range(3000):
            await asyncio.sleep(0.1)
            if insisting:
                take(replace(told[0]))
    await scene.close()
    return len(tunnel.calls), len(told), len([line for line in heard if "found its record" in line])


@pytest.mark.parametrize("repeated", ["by the store", "by the search"])
def test_promise_5_a_record_that_is_repeated_moves_no_packet(tmp_path, repeated: str) -> None:
    """A store brings the same record ten times a second: not one change of the tunnel more, no end of the back-off."""
    calls, *_ = once = virtually(tried_in_vain(tmp_path / "once", echoing=False, insisting=False))
    again = virtually(
        tried_in_vain(tmp_path / "again", echoing=repeated == "by the store", insisting=repeated == "by the search")
    )
    assert calls > 10
    assert once == again == (calls, 1, 1)


async def test_promise_5_all_lies_together_cost_little_memory(scene) -> None:
    stores = [*map(liar, LIES), shelf()]
    alice = scene.node(ALICE, *stores)
    await alice.publish(FIRST, alice.readers(Scope.KEY, []))
    reader = scene.stranger(*stores)
    await reader.find(ALICE.public)
    with growth() as measured:
        search = await reader.resolve(ALICE.public)
    assert search.best is not None
    assert measured[0] < 8_000_000
    assert max(sum(answer.refused.values()) for answer in search.answers.values()) <= 16


# ---- 6. kill -9 at any instant loses at most one publish


def test_promise_6_a_killed_publish_is_lost_alone(tmp_path, store) -> None:
    """SIGKILL at lines all over `wgdisco publish`, while the clock stands: the next one is accepted, no time is reused."""
    words = ["publish", "--private-key-file", key_file(tmp_path), "--to", "key", "-b", "folder", "-o", f"path={store}"]
    helper = Path(__file__).with_name("publish_killer.py")
    done = subprocess.run(
        [sys.executable, helper, str(ALICE.public), store, "24", *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [each for each in rounds if "port" not in each or each["equivocation"]], done.stderr
    assert all(each["code"] == 0 and each["port"] == each["told"] for each in rounds if not each["killed"])
    assert all(each["told"] - each["port"] in (0, 1) for each in rounds if each["killed"])
    times = {each["port"]: each["issued"] for each in rounds}
    assert sorted(set(times.values())) == [times[port] for port in sorted(times)]
    lost = [each["told"] != each["port"] for each in rounds if each["killed"]]
    assert len(lost) >= 20, "the kills came too late"
    assert set(lost) == {True, False}, "no kill came after the record was stored"


# ---- 7. stopping wgdisco never touches a tunnel


async def test_promise_7_stopping_connect_while_it_waits_touches_nothing(store) -> None:
    tunnel = Tunnel(BOB, Peer(ALICE.public, endpoint=ELSEWHERE, keepalive=7))
    async with running(connecting(tunnel, store)) as task:
        await until(lambda: [*store.iterdir()], "nothing was published")
        await asyncio.sleep(0.1)
        assert not task.done()
    assert (task.cancelled(), tunnel.calls) == (True, [])


async def test_promise_7_stopping_connect_while_it_tries_leaves_the_peer_as_it_was(store, scene) -> None:
    alice = Scene(scene.folder)
    alice.clock.now = time.time_ns() // 1_000_000
    node = alice.node(ALICE, Folder(path=store))
    await node.publish(FIRST, node.readers(Scope.PEERS, [BOB.public]))
    before = Peer(ALICE.public, endpoint=ELSEWHERE, keepalive=7)
    tunnel = Tunnel(BOB, before)
    async with running(connecting(tunnel, store)):
        await until(lambda: tunnel.calls, "nothing was tried")
        assert tunnel.peer.endpoint == FIRST[0].endpoint
    await alice.close()
    assert tunnel.peer == before


async def test_promise_7_stopping_connect_does_not_take_back_a_handshake(store) -> None:
    tunnel = Tunnel(BOB, Peer(ALICE.public))
    async with running(connecting(tunnel, store)):
        await until(lambda: [*store.iterdir()], "nothing was published")
        tunnel.peer = replace(tunnel.peer, endpoint=ELSEWHERE, handshake=time.time(), keepalive=25)
    assert tunnel.calls == []


async def test_promise_7_stopping_publish_touches_nothing(store) -> None:
    tunnel = Tunnel(BOB, live())
    options = ["-b", "folder", "-o", f"path={store}", "-e", PUBLISHED[0]]
    async with running(wgdisco.cli.publish._publish(typed(wgdisco.cli.publish, tunnel, *options))) as task:
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait({task})
    assert tunnel.calls == []
    assert await wgdisco.cli.publish._publish(typed(wgdisco.cli.publish, tunnel, *options)) == 0
    assert tunnel.calls == []


async def test_promise_7_stopping_the_agent_while_it_tries_leaves_the_peer_as_it_was(scene, monkeypatch) -> None:
    good = shelf()
    await found_by(scene, good)
    before = Peer(ALICE.public, endpoint=ELSEWHERE, keepalive=7)
    tunnel = Tunnel(BOB, before)
    agent = Running(scene, tunnel, monkeypatch, good)
    async with agent.run():
        await until(lambda: tunnel.peer.endpoint == FIRST[0].endpoint, "nothing was tried")
    assert tunnel.peer == before


@pytest.mark.parametrize("peer", [live(), Peer(ALICE.public, endpoint=ELSEWHERE, handshake=1.0)], ids=["live", "idle"])
async def test_promise_7_stopping_the_agent_does_not_take_back_what_the_user_set(scene, monkeypatch, peer) -> None:
    tunnel = Tunnel(BOB, peer)
    agent = Running(scene, tunnel, monkeypatch, shelf())
    async with agent.run():
        await agent.sessions(1)
        await asyncio.sleep(0.1)
        tunnel.peer = replace(tunnel.peer, endpoint=SECOND[0].endpoint, keepalive=11)
        await asyncio.sleep(0.1)
    assert tunnel.calls == []


# ---- 8. network, store, clock or plugin errors never end it


async def hang() -> None:
    await asyncio.sleep(3600)


async def cling() -> None:
    """Swallow every cancellation for a while."""
    for _ in range(3):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


def raises(error: BaseException):
    async def act() -> None:
        raise error

    return act


TROUBLES = {
    "SystemExit": raises(SystemExit(0)),
    "KeyboardInterrupt": raises(KeyboardInterrupt()),
    "GeneratorExit": raises(GeneratorExit()),
    "CancelledError": raises(asyncio.CancelledError()),
    "MemoryError": raises(MemoryError()),
    "RecursionError": raises(RecursionError()),
    "StopAsyncIteration": raises(StopAsyncIteration()),
    "TimeoutError": raises(TimeoutError()),
    "OSError": raises(OSError(101, "Network is unreachable")),
    "hangs": hang,
    "clings": cling,
}
CALLS = ("open", "put", "get", "remove", "close")


def troubled(trouble: str, calls=CALLS) -> type[Backend]:
    """A plugin in which these calls make trouble; others do nothing."""

    async def act(*_) -> list[bytes]:
        await TROUBLES[trouble]()
        return []

    async def nothing(*_) -> list[bytes]:
        return []

    chosen = {name: act if name in calls else nothing for name in CALLS}
    return type("Troubled", (Backend,), {"name": "troubled", **chosen})


@pytest.mark.parametrize("trouble", [name for name in TROUBLES if name != "clings"])
def test_promise_8_no_plugin_ends_a_command_or_hides_a_store(tmp_path, store, capsys, monkeypatch, trouble) -> None:
    find = wgdisco.plugins.find
    for calls in (CALLS, CALLS[1:4]):
        plugin = troubled(trouble, calls)
        monkeypatch.setattr(wgdisco.plugins, "find", lambda name, p=plugin: p if name == "troubled" else find(name))
        options = ["-b", "troubled", "-b", "folder", "-o", f"folder.path={store}", "--deadline", "1"]
        identity = ["--private-key-file", key_file(tmp_path)]
        assert main(["publish", *identity, "--to", "key", "-e", PUBLISHED[0], *options]) == 0
        assert "  folder: stored\n" in capsys.readouterr().out
        assert main(["resolve", *identity, str(ALICE.public), "--short", *options]) == 0
        assert capsys.readouterr().out == f"{PUBLISHED[0]}\n"


CLINGING = """
import sys
from tests.attacks.test_promises import troubled
from wgdisco import plugins
from wgdisco.cli.main import entry
find = plugins.find
plugins.find = lambda name: troubled("clings") if name == "troubled" else find(name)
entry()
"""


def test_promise_8_a_plugin_that_clings_to_its_calls_holds_no_command_up(tmp_path, store) -> None:
    """Every cancellation is swallowed: the process ends all the same, with what the other store did."""
    options = ["-b", "troubled", "-b", "folder", "-o", f"folder.path={store}", "--deadline", "1"]
    words = ["publish", "--private-key-file", key_file(tmp_path), "--to", "key", "-e", PUBLISHED[0], *options]
    done = subprocess.run(
        [sys.executable, "-c", CLINGING, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, "  folder: stored\n" in done.stdout) == (0, True), done.stderr


async def test_promise_8_following_goes_on_when_the_store_is_back(scene) -> None:
    """The only store fails while we look for a peer; once it works, the peer is found and the handshake made."""
    good = shelf()
    alice = scene.node(ALICE, good)
    await alice.publish(FIRST, alice.readers(Scope.KEY, []))
    broken = liar("fails", good)
    tunnel, heard = Tunnel(BOB, Peer(ALICE.public), FIRST[0].endpoint), []
    tending = Tending(scene.node(BOB, broken), tunnel, heard)
    async with running(tending.run()) as task:
        await until(lambda: heard == ["fails: the store hung up (trying again)"], "no failure was told")
        broken.lie = "flips a bit"
        broken.poll = 0.05
        await until(lambda: "fails" in tending.search.answers, "the store was not asked again")
        LIES["honest"] = lambda _liar, _slot, values: values
        broken.lie = "honest"
        try:
            await asyncio.wait_for(task, 20)
        finally:
            del LIES["honest"]
    assert tunnel.endpoints == {FIRST[0].endpoint}


@pytest.mark.parametrize("wrong", [NOW + 3 * 365 * DAY, NOW - 3 * 365 * DAY], ids=["ahead", "behind"])
async def test_promise_8_a_wrong_clock_is_over_when_it_is_set_right(scene, wrong: int) -> None:
    good = shelf()
    alice, bob = scene.node(ALICE, good), scene.node(BOB, good)
    for now, candidates in ((NOW, FIRST), (wrong, SECOND), (NOW + 5000, THIRD)):
        scene.clock.now = now
        await alice.publish(candidates, alice.readers(Scope.KEY, []))
        assert list((await bob.find(ALICE.public)).record.candidates) == candidates


async def test_promise_8_a_clock_before_1971_is_said_and_over_when_it_is_set(scene) -> None:
    good = shelf()
    alice = scene.node(ALICE, good)
    scene.clock.now = 86_400_000
    with pytest.raises(UsageError, match=r"^the clock says 86400 s since 1970.*; set the clock first$"):
        await alice.publish(FIRST, alice.readers(Scope.KEY, []))
    scene.clock.now = NOW
    await alice.publish(FIRST, alice.readers(Scope.KEY, []))
    assert list((await scene.stranger(good).find(ALICE.public)).record.candidates) == FIRST


async def test_promise_8_a_search_begun_before_the_clock_is_set_goes_on(scene) -> None:
    """As at the boot of a board without a battery."""
    good = shelf()
    alice = scene.node(ALICE, good)
    await alice.publish(FIRST, alice.readers(Scope.KEY, []))
    scene.clock.now = 86_400_000
    tending = Tending(scene.node(BOB, good), Tunnel(BOB, Peer(ALICE.public), FIRST[0].endpoint))
    async with running(tending.run()) as task:
        await asyncio.wait({task}, timeout=1.2)
        scene.clock.now = NOW
        await asyncio.wait_for(task, 20)


@pytest.mark.parametrize("trouble", [name for name in TROUBLES if name not in ("KeyboardInterrupt", "clings")])
async def test_promise_8_nothing_that_tells_where_we_are_ends_the_agent(scene, monkeypatch, trouble) -> None:
    agent = Running(scene, Tunnel(BOB, Peer(ALICE.public)), monkeypatch, shelf())
    agent.trouble = trouble
    async with agent.run() as task:
        await agent.sessions(1)
        await asyncio.sleep(0.05)
        assert not task.done()
        agent.trouble = None
        if trouble == "hangs":  # whoever asks has a deadline of its own
            return
        await until(lambda: agent.agent.session.announcer.publication, f"it never published: {agent.said}")


@pytest.mark.parametrize("calls", [CALLS, CALLS[1:4]], ids=["all calls", "reading and writing"])
@pytest.mark.parametrize("trouble", [name for name in TROUBLES if name != "clings"])
async def test_promise_8_no_store_ends_the_agent_or_hides_another(scene, monkeypatch, trouble, calls) -> None:
    good, tunnel = shelf(), Tunnel(BOB, Peer(ALICE.public), FIRST[0].endpoint)
    await found_by(scene, good)
    agent = Running(scene, tunnel, monkeypatch, troubled(trouble, calls)(), good)
    async with agent.run() as task:
        await until(lambda: tunnel.endpoints == {FIRST[0].endpoint}, "the peer was not found")
        assert not task.done()
        await until(lambda: "memory" in agent.agent.session.announcer.publication.stored, "it was not published")


@pytest.mark.parametrize("error", [SystemExit(3), RuntimeError("bug"), asyncio.CancelledError()], ids=repr)
async def test_promise_8_a_source_that_cannot_be_closed_ends_nothing(scene, monkeypatch, error) -> None:
    class Stuck:
        name = "stuck"

        async def close(self) -> None:
            raise error

    agent = Running(scene, Tunnel(BOB, Peer(ALICE.public)), monkeypatch, shelf())
    agent.sources = [Stuck()]
    async with agent.run() as task:
        await agent.sessions(1)
        agent.agent.reload()
        await agent.sessions(2)
        assert not task.done()


@pytest.mark.parametrize("peer", [Peer(ALICE.public), live()], ids=["without a session", "live"])
async def test_promise_8_the_agent_goes_on_when_the_interface_is_back(scene, monkeypatch, peer) -> None:
    agent = Running(scene, Tunnel(BOB, peer), monkeypatch, shelf())
    async with agent.run():
        await agent.sessions(1)
        agent.there = False
        await until(lambda: agent.agent.session is None, "it works on an interface that has gone")
        agent.there = True
        await agent.sessions(2)


async def test_promise_8_the_agent_goes_on_when_a_peer_without_a_session_is_removed(scene, monkeypatch) -> None:
    tunnel = Tunnel(BOB, Peer(ALICE.public))
    agent = Running(scene, tunnel, monkeypatch, shelf())
    async with agent.run():
        await agent.sessions(1)
        tunnel.peer = Peer(MALLORY.public)
        await agent.sessions(2)
        await until(lambda: agent.agent.session and agent.agent.session.peers == [MALLORY.public], "the old peers stay")


async def test_what_the_agent_says_holds_no_whole_address_and_no_key(scene, monkeypatch) -> None:
    """Of ours and of the peer's: a log is passed on more easily than one thinks."""
    good, tunnel = shelf(), Tunnel(BOB, Peer(ALICE.public, endpoint=ELSEWHERE), FIRST[0].endpoint)
    await found_by(scene, good)
    agent = Running(scene, tunnel, monkeypatch, good)
    async with agent.run():
        await until(lambda: any("connected at" in each for each in agent.said), f"{agent.said}")
    said = "\n".join(agent.said)
    hidden = [PUBLISHED[0].partition(":")[0], *(str(each.address) for each in (FIRST[0].endpoint, ELSEWHERE))]
    assert [each for each in [*hidden, str(BOB.public), str(ALICE.public)] if each in said] == []


# ---- 9. a full dump of the store tells no address, and links no day to the next


def windows(data: bytes, size: int = 8) -> set[bytes]:
    return {data[at : at + size] for at in range(len(data) - size + 1)}


def spellings(secret: bytes) -> list[bytes]:
    """Bytes as they are, in hex, and in base64 and base32 at every alignment (without the ends, which vary)."""
    coded = [secret.hex().encode(), secret.hex().upper().encode()]
    for encoder, group in ((b64encode, 3), (urlsafe_b64encode, 3), (b32encode, 5)):
        for shift in range(group):
            text = encoder(secret[shift:]).rstrip(b"=")[:-1]
            coded += [text, text.lower()] if encoder is b32encode else [text]
    return [secret, *coded]


async def dumped(scene: Scene, store: Path, scopes) -> dict[str, bytes]:
    """Every file of the store after a publish now and two days later, each over a border of periods."""
    alice = scene.node(ALICE, Folder(path=store), networks=[NETWORK])
    for _ in range(2):
        for scope in scopes:
            readers = alice.readers(scope, [BOB.public, MALLORY.public])
            border = readers[0].period(ALICE.public, scene.clock.now)
            while readers[0].period(ALICE.public, scene.clock.now + HOUR // 2) == border:
                scene.clock.now += HOUR // 4
            await alice.publish([candidate(text) for text in PUBLISHED], readers)
        scene.clock.now += 2 * DAY
    return {path.name: path.read_bytes() for path in store.iterdir()}  # noqa: ASYNC240 - a dozen small files


async def test_promise_9_a_dump_holds_no_address_and_no_key(scene, store) -> None:
    dump = await dumped(scene, store, [Scope.PEERS, Scope.NETWORK])
    assert len(dump) >= 8
    secrets = [each.public.raw for each in (ALICE, BOB, MALLORY)] + [
        each.public.edwards for each in (ALICE, BOB, MALLORY)
    ]
    endpoints = [Endpoint.parse(text) for text in PUBLISHED]
    texts = [str(each).encode() for each in endpoints] + [str(each.address).encode() for each in endpoints]
    forbidden = {
        form for secret in secrets + [each.address.packed + b"" for each in endpoints[1:]] for form in spellings(secret)
    }
    forbidden |= {*texts, endpoints[0].address.packed, endpoints[0].address.packed.hex().encode()}
    for name, text in dump.items():
        blob = from_text(text.decode().strip())
        assert blob is not None
        everything = b"\0".join([name.encode(), name.lower().encode(), text, blob])
        assert [form for form in forbidden if form in everything] == []


async def test_promise_9_a_dump_opens_to_nobody_who_knows_only_public_keys(scene, store) -> None:
    """Nor to another peer of the publisher: what the audience `key` reads in the control is what others would lose."""
    dump = await dumped(scene, store, [Scope.PEERS, Scope.NETWORK])
    assert opened(dump, [Audience.key(each.public) for each in (ALICE, BOB, MALLORY)], scene.clock.now) == 0
    public = [each.public.raw for each in (ALICE, BOB, MALLORY)]
    known = [*public, *(_hash(32, b"wgdisco pair", b"".join(sorted(two))) for two in combinations(public, 2))]
    guessed = [Audience(scope, secret) for scope in Scope for secret in known]
    assert opened(dump, [*guessed, Audience.peers(MALLORY, BOB.public)], scene.clock.now) == 0
    assert opened(dump, [Audience.peers(BOB, ALICE.public), Audience.members(NETWORK)], scene.clock.now) >= 6
    for reader in (scene.stranger(Folder(path=store)), scene.node(BOB, Folder(path=store))):
        with pytest.raises(NotFound):
            await reader.find(MALLORY.public)


def opened(dump: dict[str, bytes], audiences, now: int) -> int:
    """How many of the dump's values these audiences read, in any slot of the last days."""
    places = [
        audience.place(ALICE.public, audience.period(ALICE.public, now - day * DAY))
        for audience in audiences
        for day in range(-1, 8)
    ]
    return sum(readable(text, place) for text in dump.values() for place in places)


def readable(text: bytes, place) -> bool:
    try:
        place.unseal(from_text(text.decode().strip()))
    except RecordRefused:
        return False
    return True


async def test_promise_9_no_stored_byte_links_two_slots(scene, store) -> None:
    """Of the same subject on one day and the next, nor of two audiences: no 8 bytes in common, in any form."""
    dump = await dumped(scene, store, [Scope.PEERS, Scope.NETWORK])
    seen: set[bytes] = set()
    for name, text in dump.items():
        # every value begins with `wgd1.` and the version: that is the same for all users
        content = text.strip().removeprefix(b"wgd1.")[2:]
        blob = from_text(text.decode().strip())[1:]
        own = windows(name.encode()) | windows(content) | windows(blob)
        assert not own & seen
        seen |= own
    assert len({len(text) for text in dump.values()}) == 1
