"""BlockingBackend: blocking libraries in a thread of their own that holds nothing up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

import wgdisco.blocking
from wgdisco.backend import Secret, Slot
from wgdisco.blocking import BlockingBackend
from wgdisco.errors import StoreError
from wgdisco.store import Store
from wgdisco.testing import Author, BackendContract


@dataclass
class Drawer(BlockingBackend):
    """Keeps values in a dictionary that is not thread-safe, and blocks where it is told to."""

    name = "drawer"
    values: dict[bytes, bytes] = field(default_factory=dict)
    journal: list[tuple] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self.note("start")

    def stop(self) -> None:
        self.note("stop")

    def store(self, slot, blob, lifetime) -> None:
        self.note("store", blob)
        self.values[slot.id] = blob

    def load(self, slot) -> list[bytes]:
        self.note("load")
        if slot.text == "hangs":
            self.gate.wait()
        return [self.values[slot.id]] if slot.id in self.values else []

    def note(self, *what: object) -> None:
        self.journal.append((id(self), threading.get_ident(), *what))

    def said(self) -> list[object]:
        return [entry[2] for entry in self.journal]


HANGS = Slot(b"h" * 20, "hangs", b"")
FINE = Slot(b"f" * 20, "fine", b"")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wgdisco.blocking, "GRACE", 0.05)
    monkeypatch.setattr(wgdisco.blocking, "LOOK", 0.02)


@pytest.fixture
def drawer() -> Drawer:
    made = Drawer()
    yield made
    made.gate.set()  # let threads that hang end


async def hang(backend: Drawer) -> asyncio.Task:
    """A call that is under way and does not return."""
    before = backend.said().count("load")
    call = asyncio.ensure_future(backend.get(HANGS))
    while backend.said().count("load") == before:
        await asyncio.sleep(0.01)
    return call


async def cut(backend: Drawer) -> None:
    """The same, given up, and for so long that it counts as hung."""
    (await hang(backend)).cancel()
    await asyncio.sleep(0.1)


class Shelf:
    """A server: answers, or blocks its clients, or refuses them."""

    def __init__(self) -> None:
        self.values, self.answers, self.alive = {}, threading.Event(), True
        self.answers.set()
        self.freeze, self.thaw = self.answers.clear, self.answers.set

    def kill(self) -> None:
        self.alive = False

    def restart(self) -> None:
        self.alive = True


@dataclass
class Client(BlockingBackend):
    """Blocks in every call as long as the shelf does not answer."""

    name = "client"
    shelf: Shelf

    def store(self, slot, blob, lifetime) -> None:
        self.ask()[slot.id] = blob

    def load(self, slot) -> list[bytes]:
        return [self.ask()[slot.id]] if slot.id in self.ask() else []

    def erase(self, slot) -> None:
        self.ask().pop(slot.id, None)

    def ask(self) -> dict[bytes, bytes]:
        self.shelf.answers.wait()
        if not self.shelf.alive:
            raise ConnectionRefusedError("nobody there")
        return self.shelf.values


class TestContract(BackendContract):
    """A blocking client keeps the contract, also while its server is frozen or dead."""

    @pytest.fixture(autouse=True)
    def shelf(self) -> None:
        self.control = Shelf()

    def backend(self) -> Client:
        return Client(self.control)


class TestContractWithoutErase(TestContract):
    def backend(self) -> Client:
        class Keeps(Client):
            erase = BlockingBackend.erase

        return Keeps(self.control)


async def test_everything_runs_in_one_daemon_thread_which_is_not_this_one(drawer: Drawer) -> None:
    await drawer.open()
    await drawer.put(FINE, b"x", 60)
    await asyncio.gather(*(drawer.get(FINE) for _ in range(5)))
    thread = next(each for each in threading.enumerate() if each.name == "wgdisco drawer")
    await drawer.close()
    assert {entry[:2] for entry in drawer.journal} == {(id(drawer), thread.ident)}
    assert thread.daemon
    assert drawer.said() == ["start", "store", *["load"] * 5, "stop"]
    thread.join(5)
    assert not thread.is_alive()


async def test_waiting_writes_go_before_waiting_reads(drawer: Drawer) -> None:
    await drawer.open()
    reads = [await hang(drawer), *(asyncio.ensure_future(drawer.get(FINE)) for _ in range(2))]
    await asyncio.sleep(0)
    write = asyncio.ensure_future(drawer.put(FINE, b"x", 60))
    await asyncio.sleep(0)
    drawer.gate.set()
    assert await asyncio.gather(*reads, write) == [[], [b"x"], [b"x"], None]
    assert drawer.said() == ["start", "load", "store", "load", "load"]
    await drawer.close()


async def test_a_call_given_up_while_it_waits_is_not_made(drawer: Drawer) -> None:
    await drawer.open()
    hanging = await hang(drawer)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(drawer.put(FINE, b"late", 60), 0.05)
    drawer.gate.set()
    await hanging
    await drawer.close()
    assert drawer.said() == ["start", "load", "stop"]


@pytest.mark.usefixtures("impatient")
async def test_a_call_that_never_returns_gets_the_instance_replaced(drawer: Drawer) -> None:
    await drawer.open()
    await cut(drawer)
    await drawer.put(FINE, b"x", 60)
    assert await drawer.get(FINE) == [b"x"]
    assert drawer.said() == ["start", "load", "start", "store", "load"]
    first, second = drawer.journal[0], drawer.journal[-1]
    assert first[0] != second[0]
    assert first[1] != second[1]
    await drawer.close()


@pytest.mark.usefixtures("impatient")
async def test_calls_behind_one_that_hangs_are_made_by_the_replacement(drawer: Drawer) -> None:
    """Also when they waited already before it was given up."""
    await drawer.open()
    hanging = await hang(drawer)
    behind = asyncio.ensure_future(drawer.put(FINE, b"x", 60))
    await asyncio.sleep(0.05)
    hanging.cancel()
    await asyncio.wait_for(behind, 5)
    assert drawer.values == {FINE.id: b"x"}
    await drawer.close()


@pytest.mark.usefixtures("impatient")
async def test_after_three_replacements_it_says_how_many_calls_hang_until_one_returns(drawer: Drawer) -> None:
    await drawer.open()
    for _ in range(4):
        await cut(drawer)
    store = Store(drawer)
    store._opening = asyncio.ensure_future(asyncio.sleep(0))  # it is open already
    with pytest.raises(StoreError) as error:
        await store.put(FINE, b"x", 60)
    assert str(error.value) == "drawer: hung; 4 calls never returned; it is asked again when one does"
    assert [thread.name for thread in threading.enumerate()].count("wgdisco drawer") == 4

    drawer.gate.set()
    while not drawer.values:
        with suppress(TimeoutError):
            await drawer.put(FINE, b"back", 60)
        await asyncio.sleep(0.01)
    while drawer._crew.hung:
        await asyncio.sleep(0.01)
    drawer.gate.clear()
    await cut(drawer)
    await drawer.put(FINE, b"again", 60)
    assert drawer.values == {FINE.id: b"again"}
    await drawer.close()


@pytest.mark.usefixtures("impatient")
async def test_a_call_without_deadline_ends_with_an_error_when_it_hangs(drawer: Drawer, monkeypatch) -> None:
    """What follows has no deadline of its own; it must not wait for ever, nor block what others put."""
    monkeypatch.setattr(wgdisco.blocking, "HUNG_AFTER", 0.2)
    await drawer.open()
    with pytest.raises(TimeoutError, match=r"^hung; a call did not return within 0\.2 s$"):
        await drawer.get(HANGS)
    await drawer.put(FINE, b"x", 60)
    await drawer.close()


@pytest.mark.usefixtures("impatient")
async def test_what_hung_and_returned_is_stopped(drawer: Drawer) -> None:
    await drawer.open()
    await cut(drawer)
    await drawer.put(FINE, b"x", 60)
    drawer.gate.set()
    while "stop" not in drawer.said():
        await asyncio.sleep(0.01)
    assert (drawer.journal[-1][0], drawer.said()[-1]) == (id(drawer), "stop")
    await drawer.close()


@pytest.mark.usefixtures("impatient")
async def test_closing_does_not_wait_for_what_hangs(drawer: Drawer) -> None:
    await drawer.open()
    hanging = await hang(drawer)
    await asyncio.wait_for(drawer.close(), 5)
    assert not hanging.done()
    hanging.cancel()


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError("refused"), OSError), (SystemExit(3), RuntimeError), (StopIteration(), RuntimeError)],
)
async def test_what_the_library_raises_arrives_and_the_thread_goes_on(error: BaseException, raised: type) -> None:
    class Raises(Drawer):
        def load(self, slot):
            raise error

    backend = Raises()
    await backend.open()
    for _ in range(2):
        with pytest.raises(raised):
            await backend.get(FINE)
    await backend.put(FINE, b"x", 60)
    await backend.close()


async def test_a_start_that_fails_is_the_error_of_open_and_stop_is_not_called() -> None:
    class Refused(Drawer):
        def start(self):
            super().start()
            raise ConnectionRefusedError("nobody there")

    backend = Refused()
    with pytest.raises(ConnectionRefusedError, match="nobody there"):
        await backend.open()
    await backend.close()
    assert backend.said() == ["start"]


async def test_an_error_of_stop_is_told() -> None:
    class Stuck(Drawer):
        def stop(self):
            raise OSError("busy")

    backend = Stuck()
    await backend.open()
    with pytest.raises(RuntimeError, match=r"^stop\(\) failed: busy$"):
        await backend.close()


async def test_a_call_before_open_is_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match=r"^backend 'drawer' is not open$"):
        await Drawer().get(FINE)


async def test_without_erase_nothing_is_asked_of_the_thread(drawer: Drawer) -> None:
    await drawer.open()
    await drawer.remove(FINE)
    await drawer.close()
    assert drawer.said() == ["start", "stop"]


async def test_a_deadline_longer_than_the_patience_is_kept(drawer: Drawer, monkeypatch) -> None:
    monkeypatch.setattr(wgdisco.blocking, "HUNG_AFTER", 0.1)
    drawer.deadline = 60.0
    await drawer.open()
    slow = asyncio.ensure_future(drawer.get(HANGS))
    await asyncio.sleep(0.6)
    drawer.gate.set()
    assert await slow == []
    await drawer.close()


async def test_an_option_may_be_a_secret() -> None:
    """A secret refuses to be serialised; the copy that replaces an instance shares it."""

    @dataclass
    class Locked(Drawer):
        password: Secret = field(default_factory=Secret)

        def load(self, slot):
            return [self.password.reveal().encode()]

    backend = Locked(password=Secret("hush"))
    await backend.open()
    assert await backend.get(FINE) == [b"hush"]
    await backend.close()


class Stuck(BlockingBackend):
    """Hangs in every load."""

    name = "stuck"
    seconds: ClassVar[float] = 3600

    def load(self, slot):
        time.sleep(self.seconds)


def test_a_hung_call_does_not_hold_the_process() -> None:
    """With asyncio.to_thread this program would go on for an hour."""
    program = """
        import asyncio
        from tests.backends.test_blocking import HANGS, Stuck

        async def main():
            backend = Stuck()
            await backend.open()
            try:
                await asyncio.wait_for(backend.get(HANGS), 0.1)
            except TimeoutError:
                print("cut", flush=True)
            await backend.close()

        asyncio.run(main())
        print("done", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("cut\ndone\n", "", 0)


def test_slots_of_an_author_can_be_stored_by_a_thread() -> None:
    """`slot.sign` may be called outside the event loop."""
    slot = Author().slot()
    signatures: list[bytes] = []
    thread = threading.Thread(target=lambda: signatures.append(slot.sign(1, b"x")))
    thread.start()
    thread.join()
    assert len(signatures[0]) == 64
