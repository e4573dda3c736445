"""Dynamic batching: requests that come together share one call of the engine."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tscnc_deploy.engines.base import Array, Engine
from tscnc_deploy.serving.errors import Reason, RequestError

_log = logging.getLogger(__name__)
_SINGLE_CALLS = 15


@dataclass(frozen=True)
class Call:
    """One call of an engine.

    Attributes:
        images: How many it was given.
        waited: Seconds that each request had waited for it.
        seconds: That it took.
    """

    images: int
    waited: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, eq=False, slots=True)
class _Job:
    images: Array
    answer: asyncio.Future[Array]
    arrived: float


class Batcher:
    """Gathers requests into calls; they arrive in one event loop, and each engine has a thread.

    An engine's thread takes its next batch by itself, so the engine never waits for an event loop that is busy with the
    requests after it. A call waits for the next requests only as long as there are reasons to expect them: until it has
    half of those that are under way (of the call before it, whose clients will ask again, and those that wait),
    `max_batch` images, or the oldest has waited `max_delay`. A single client that waits for its answers is therefore
    never delayed, and many clients meet in two calls, of which one is computed while the other is gathered.

    Args:
        engines: One per instance; each is called by one thread at a time.
        max_batch: Most images of one call; no request may have more.
        max_delay: Seconds.
        max_queue: Most images that wait; further requests are refused.
        in_place_seconds: As long as most of the last calls with one image took less, one that finds nothing waiting and
            no engine at work is computed in the event loop, by the first engine: right for engines that are quicker
            than the way to their thread and back. 0 does so never.
        single_seconds: What calls with one image took so far.
        observe: Is told of every call, in the event loop.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        max_batch: int,
        max_delay: float,
        max_queue: int,
        in_place_seconds: float = 0.0,
        single_seconds: Iterable[float] = (),
        observe: Callable[[Call], None] = lambda call: None,
    ) -> None:
        self._engines = engines
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._max_queue = max(max_queue, max_batch)
        self._in_place_seconds = in_place_seconds
        # A median: now and then the machine is busy with something else.
        self._single_seconds = deque(single_seconds, maxlen=_SINGLE_CALLS)
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._images = 0
        self._at_work = 0
        self._last = 1
        self._wanted = 1
        self._closing = False
        # Guards what is above; `_turn` is held by the one thread that gathers.
        self._enough = threading.Condition()
        self._turn = threading.Lock()
        self._ended: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """Number of images that wait."""
        return self._images

    def start(self) -> None:
        """Begins to answer; must be called inside the event loop."""
        loop = asyncio.get_running_loop()
        for number, engine in enumerate(self._engines):
            ended: asyncio.Future[None] = loop.create_future()
            self._ended.append(ended)
            # No reason to keep a program alive that was ended without `close`.
            threading.Thread(
                target=self._work, args=(engine, loop, ended), name=f"engine-{number}", daemon=True
            ).start()

    async def close(self) -> None:
        """Answers what waits, takes nothing more, and ends."""
        with self._enough:
            self._closing = True
            self._enough.notify()
        await asyncio.gather(*self._ended)

    async def logits(self, images: Array, deadline: float | None = None) -> Array:
        """Logits of the images of one request, float32 [N, C, H, W] in [0, 1] -> float32 [N, K].

        Cancelling it takes the request out of the queue.

        Args:
            images: At most `max_batch`.
            deadline: When to give up, in the event loop's time; None never does.

        Raises:
            RequestError: The queue is full, the deadline has passed, the engine failed, or the batcher is closed.
        """
        loop = asyncio.get_running_loop()
        if deadline is not None and deadline <= loop.time():
            raise _too_late()
        job = _Job(images, loop.create_future(), time.monotonic())
        if len(images) == 1 and self._is_quick() and self._idle():
            # Only this thread adds jobs, so no engine finds work before the call is over.
            self._answer(*self._call(self._engines[0], [job]))
            return await job.answer
        self._add(job)
        try:
            async with asyncio.timeout_at(deadline):
                return await job.answer
        except TimeoutError:
            raise _too_late() from None
        finally:
            if job.answer.cancelled():
                self._give_up(job)

    def _is_quick(self) -> bool:
        times = sorted(self._single_seconds)
        return bool(times) and times[len(times) // 2] < self._in_place_seconds

    def _idle(self) -> bool:
        with self._enough:
            return not (self._waiting or self._at_work or self._closing)

    def _add(self, job: _Job) -> None:
        count = len(job.images)
        with self._enough:
            if self._closing:
                msg = "this version of the model is being stopped"
                raise RequestError(msg, Reason.UNAVAILABLE)
            if self._images + count > self._max_queue:
                msg = f"{self._images} images are waiting, {self._max_queue} may; try again later"
                raise RequestError(msg, Reason.BUSY)
            self._waiting.append(job)
            self._images += count
            if self._are_enough():
                self._enough.notify()

    def _give_up(self, job: _Job) -> None:
        with self._enough:
            if job in self._waiting:
                self._waiting.remove(job)
                self._images -= len(job.images)

    def _work(self, engine: Engine, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        while batch := self._gather():
            answer = self._call(engine, batch)
            with self._enough:
                self._at_work -= 1
            loop.call_soon_threadsafe(self._answer, *answer)
        loop.call_soon_threadsafe(ended.set_result, None)

    def _gather(self) -> list[_Job]:
        """The jobs of the next call, in the order of their arrival; none when the batcher is closed and empty."""
        with self._turn, self._enough:
            batch: list[_Job] = []
            while not batch and (self._waiting or not self._closing):
                self._until(1, None)
                if self._waiting:
                    half = -(-(self._last + len(self._waiting)) // 2)
                    self._until(half, self._waiting[0].arrived + self._max_delay)
                    batch = self._take()
            if batch:
                self._last = len(batch)
                self._at_work += 1
            return batch

    def _are_enough(self) -> bool:
        return len(self._waiting) >= self._wanted or self._images >= self._max_batch

    def _until(self, requests: int, deadline: float | None) -> None:
        self._wanted = requests
        while not (self._are_enough() or self._closing):
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return
            self._enough.wait(remaining)

    def _take(self) -> list[_Job]:
        batch: list[_Job] = []
        room = self._max_batch
        while self._waiting and len(self._waiting[0].images) <= room:
            job = self._waiting.popleft()
            room -= len(job.images)
            self._images -= len(job.images)
            batch.append(job)
        return batch

    def _call(self, engine: Engine, batch: list[_Job]) -> tuple[list[_Job], Array, Call]:
        started = time.monotonic()
        logits = self._run(engine, batch)
        call = Call(len(logits), tuple(started - job.arrived for job in batch), time.monotonic() - started)
        return batch, logits, call

    def _run(self, engine: Engine, batch: list[_Job]) -> Array:
        form = sum(len(job.images) for job in batch), engine.spec.classes
        try:
            images = batch[0].images if len(batch) == 1 else np.concatenate([job.images for job in batch])
            logits = engine.logits(images)
            if logits.shape != form:
                msg = f"it gave logits {list(logits.shape)} instead of {list(form)}"
                raise ValueError(msg)
            return logits
        except Exception:  # an engine may be anybody's, and its failure must not end the server
            _log.exception("the engine %s failed on %d images", engine.spec.name, form[0])
            return np.full(form, np.nan, np.float32)

    def _answer(self, batch: list[_Job], logits: Array, call: Call) -> None:
        self._observe(call)
        if call.images == 1:
            self._single_seconds.append(call.seconds)
        finite = np.asarray(np.isfinite(logits).all(axis=1))
        start = 0
        for job in batch:
            own = slice(start, start + len(job.images))
            start = own.stop
            if job.answer.done():  # its client has gone
                continue
            if finite[own].all():
                job.answer.set_result(logits[own])
            else:
                job.answer.set_exception(RequestError("the engine failed on this request", Reason.FAILED))


def _too_late() -> RequestError:
    return RequestError("the deadline of the request passed before it was answered", Reason.DEADLINE)
