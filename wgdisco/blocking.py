"""BlockingBackend: a store whose library blocks, each instance in one daemon thread of its own.

A daemon thread and not `asyncio.to_thread`, whose threads are waited for when the process ends: a call that hangs would
hold it.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, Self, TypeVar

from wgdisco.backend import Backend, Slot

__all__ = ["BlockingBackend"]

HUNG_AFTER = 30.0  # seconds after which a call that somebody still waits for counts as hung
GRACE = 1.0  # seconds the same for a call that nobody waits for any more
REPLACEMENTS = 3  # threads that may hang beside the one that works
LOOK = 0.25  # seconds between two looks whether the thread hangs
FIRST, WRITE, READ, LAST = range(4)  # the order in which waiting calls are taken

T = TypeVar("T")


class BlockingBackend(Backend):
    """A store with a blocking library: write `store` and `load`, and `start`, `stop`, `erase` where it needs them.

    They run in one thread, one call at a time, so they need not be thread-safe; writes that wait go before reads. A
    call whose deadline has passed holds up neither the event loop nor the end of the process. While it does not
    return, a copy of the instance as it was before `start` goes on in a new thread, at most three times: connect in
    `start`, not in the constructor.

    ```python
    @dataclass
    class FTP(BlockingBackend):
        \"\"\"One file for each record on an FTP server.\"\"\"
        name = "ftp"
        host: str

        def start(self):
            import ftplib
            self.server = ftplib.FTP(self.host, timeout=5)

        def store(self, slot, blob, lifetime):
            self.server.storlines(f"STOR {slot.text}", io.BytesIO(to_text(blob).encode()))

        def load(self, slot): ...
    ```
    """

    _crew: _Crew | None = None

    def start(self) -> None:
        """Connect. Import the client library here. Tried again at the next call when it raises."""

    def stop(self) -> None:
        """Let go of everything `start` took; called once for every `start` that succeeded."""

    def store(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Store `blob` under the slot for `lifetime` seconds, replacing what we put there before."""
        raise NotImplementedError(f"backend {self.name!r} cannot store")

    def load(self, slot: Slot) -> list[bytes]:
        """Every value found in the slot, in any order; an empty list when there is none."""
        raise NotImplementedError(f"backend {self.name!r} cannot look up")

    def erase(self, slot: Slot) -> None:
        """Forget what we put into the slot; the default leaves it to the store's own expiry."""

    async def open(self) -> None:
        """Begin the thread and call `start` in it."""
        self._crew = _Crew(self)
        await self._crew.call(lambda _: None, FIRST)

    async def close(self) -> None:
        """Call `stop` in the thread and end it; a thread that hangs ends with the process."""
        crew, self._crew = self._crew, None
        if crew is not None:
            await crew.dismiss()

    async def moved(self) -> None:
        """Begin anew in another thread: what the present one waits for will not come."""
        await self.close()
        await self.open()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Call `store` in the thread, before the reads that wait."""
        await self.aside(lambda backend: backend.store(slot, blob, lifetime), urgent=True)

    async def get(self, slot: Slot) -> list[bytes]:
        """Call `load` in the thread."""
        return await self.aside(lambda backend: backend.load(slot))

    async def remove(self, slot: Slot) -> None:
        """Call `erase` in the thread, before the reads that wait."""
        if type(self).erase is not BlockingBackend.erase:
            await self.aside(lambda backend: backend.erase(slot), urgent=True)

    async def aside(self, work: Callable[[Self], T], *, urgent: bool = False) -> T:
        """Run `work` in the thread, for a backend that overrides `fetch` or `follow`; it is given the instance to use.

        Raises what `work` or `start` raised, and TimeoutError for a call that hangs.
        """
        if self._crew is None:
            raise RuntimeError(f"backend {self.name!r} is not open")
        return await self._crew.call(work, WRITE if urgent else READ)


class _Job:
    """One call: what to do, who waits for it, and since when it is under way; `work` of None means `stop`."""

    def __init__(self, work: Callable[[Any], Any] | None) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[tuple[Any, BaseException | None]] = self.loop.create_future()
        self.started: float | None = None
        self.abandoned: float | None = None

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Hand the outcome from the thread to whoever waits, if the event loop is still there."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.settle, result, error)

    def settle(self, result: Any, error: BaseException | None) -> None:
        """The same within the event loop; the first outcome counts."""
        if not self.outcome.done():
            self.outcome.set_result((result, error))

    def hangs(self, patience: float) -> bool:
        """Whether it is under way for too long, `patience` seconds being what is long while somebody waits."""
        now = time.monotonic()
        if self.abandoned is not None:
            return now - self.abandoned > GRACE
        return self.started is not None and now - self.started > patience


class _Worker:
    """One thread's part: the instance it calls, and the job under way."""

    def __init__(self, backend: BlockingBackend) -> None:
        self.backend = backend
        self.connected = False
        self.retired = False
        self.job: _Job | None = None

    def do(self, job: _Job) -> None:
        """Do one job, after `start` if that has not succeeded yet."""
        try:
            result = None
            if job.work is None:
                self._stop()
            else:
                result = self._work(job.work)
            job.finish(result, None)
        except BaseException as error:  # noqa: BLE001 - raised again where the call is waited for
            job.finish(None, error)

    def leave(self) -> None:
        """Call `stop` after a call that was given up has returned; nobody is left to hear its error."""
        with suppress(BaseException):
            self._stop()

    def _work(self, work: Callable[[Any], T]) -> T:
        if not self.connected:
            self.backend.start()
            self.connected = True
        return work(self.backend)

    def _stop(self) -> None:
        if self.connected:
            self.connected = False
            self.backend.stop()


class _Crew:
    """The thread at work, those that hang, and the calls that wait; everything else is guarded by `changed`."""

    def __init__(self, backend: BlockingBackend) -> None:
        self.name = backend.name
        self.patience = max(HUNG_AFTER, getattr(backend, "deadline", 0.0))
        self.pristine = copy.copy(backend)
        self.waiting: list[tuple[int, int, _Job]] = []
        self.numbers = count()
        self.changed = threading.Condition()
        self.hung: list[_Worker] = []
        self.worker = self._employ(backend)

    async def call(self, work: Callable[[Any], T], rank: int) -> T:
        """Have one call made and wait for its outcome; raises what it raised."""
        job = _Job(work)
        try:
            with self.changed:
                self._relieve()
                self._enqueue(job, rank)
            while not job.outcome.done():
                await asyncio.wait({job.outcome}, timeout=LOOK)
                with self.changed:
                    self._relieve()
        finally:
            job.abandoned = time.monotonic()
        result, error = job.outcome.result()
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise RuntimeError(f"the plugin raised {type(error).__name__}") from error
        return result  # type: ignore[no-any-return] # it is what `work` returned

    async def dismiss(self) -> None:
        """End the thread after the calls that wait; one that hangs is left behind after the grace."""
        job = _Job(None)
        with self.changed:
            self._enqueue(job, LAST)
        try:
            await asyncio.wait({job.outcome}, timeout=GRACE)
        finally:
            with self.changed:
                self.worker.retired = True
                self.changed.notify_all()
        if job.outcome.done() and (error := job.outcome.result()[1]) is not None:
            raise RuntimeError(f"stop() failed: {error}") from error

    def _enqueue(self, job: _Job, rank: int) -> None:
        heapq.heappush(self.waiting, (rank, next(self.numbers), job))
        self.changed.notify_all()

    def _employ(self, backend: BlockingBackend) -> _Worker:
        worker = _Worker(backend)
        threading.Thread(target=self._serve, args=(worker,), name=f"wgdisco {self.name}", daemon=True).start()
        return worker

    def _relieve(self) -> None:
        """Replace the thread when its call hangs; raises TimeoutError when too many do."""
        job = self.worker.job
        if job is None or not job.hangs(self.patience):
            return
        job.settle(None, TimeoutError(f"hung; a call did not return within {self.patience:g} s"))
        if len(self.hung) >= REPLACEMENTS:
            raise TimeoutError(f"hung; {len(self.hung) + 1} calls never returned; it is asked again when one does")
        self.worker.retired = True
        self.hung.append(self.worker)
        self.worker = self._employ(copy.copy(self.pristine))

    def _serve(self, worker: _Worker) -> None:
        """The thread: make the calls until retired."""
        while self._take(worker):
            assert worker.job is not None
            worker.do(worker.job)
        worker.leave()
        with self.changed, suppress(ValueError):
            self.hung.remove(worker)

    def _take(self, worker: _Worker) -> bool:
        """Wait for the next job that somebody waits for; false when the thread is to end."""
        with self.changed:
            worker.job = None
            while not worker.retired:
                if not self.waiting:
                    self.changed.wait()
                    continue
                job = heapq.heappop(self.waiting)[2]
                if job.abandoned is None:
                    worker.job, job.started = job, time.monotonic()
                    return True
            return False
