"""Dynamic batching: requests that arrive together share one engine call."""

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
from tscnc_deploy.serving.errors import NO_MEMORY, Reason, RequestError

_log = logging.getLogger(__name__)
_SINGLE_CALLS = 15


@dataclass(frozen=True)
class Call:
    """One engine call.

    Attributes:
        images: Number of images.
        waited: Seconds that each request waited before the call.
        seconds: Duration of the call.
    """

    images: int
    waited: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, eq=False, slots=True)
class _Job:
    images: Array
    logits: asyncio.Future[Array]
    arrived: float


class Batcher:
    """Batches requests from one event loop; each engine runs in its own thread.

    An engine's thread takes its next batch itself, so the engine never waits for an event loop that is busy with later
    requests. A batch waits for more requests only while more are likely to come: until it contains half of the
    requests in flight (those of the previous call, whose clients will send the next one, and those in the queue) or
    `max_batch` images, or until its oldest request has waited for `max_delay`. So a single client that waits for each
    response is never delayed, and many clients form two batches, one being computed while the other fills.

    Args:
        engines: One per instance; each is called by one thread at a time.
        max_batch: Largest number of images in a call; no request may have more.
        max_delay: Longest time in seconds that a request waits for others.
        max_queue: Largest number of waiting images; requests beyond it are rejected.
        in_place_seconds: While the median of the recent single-image calls is below this, a request for one image that
            finds the queue empty and all engines idle is computed in the event loop, by the first engine. This pays off
            for engines that are faster than the round trip to their thread. 0 disables it.
        single_seconds: Durations of past single-image calls.
        observe: Called in the event loop after every engine call.
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
        # The median ignores the calls during which the machine was busy with something else.
        self._single_seconds = deque(single_seconds, maxlen=_SINGLE_CALLS)
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._images = 0
        self._busy = 0
        self._last = 1
        self._wanted = 1
        self._closing = False
        # Guards the fields above; the one thread that fills a batch holds `_turn`.
        self._enough = threading.Condition()
        self._turn = threading.Lock()
        self._ended: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """Number of waiting images."""
        return self._images

    def start(self) -> None:
        """Starts the threads; must be called in the event loop."""
        loop = asyncio.get_running_loop()
        for number, engine in enumerate(self._engines):
            ended: asyncio.Future[None] = loop.create_future()
            self._ended.append(ended)
            # A daemon, so that a program that ends without `close` is not kept alive.
            threading.Thread(
                target=self._work, args=(engine, loop, ended), name=f"engine-{number}", daemon=True
            ).start()

    async def close(self) -> None:
        """Accepts no more requests, finishes those in the queue, and stops the threads."""
        with self._enough:
            self._closing = True
            self._enough.notify()
        await asyncio.gather(*self._ended)

    async def logits(self, images: Array, deadline: float | None = None) -> Array:
        """Logits of the images of one request, float32 [N, C, H, W] in [0, 1] -> float32 [N, K].

        Cancelling it removes the request from the queue.

        Args:
            images: At most `max_batch`.
            deadline: When to give up, in the event loop's time; None waits for ever.

        Raises:
            RequestError: The queue is full, the deadline has passed, the engine failed, or the batcher is closed.
        """
        loop = asyncio.get_running_loop()
        if deadline is not None and deadline <= loop.time():
            raise _deadline_passed()
        job = _Job(images, loop.create_future(), time.monotonic())
        if len(images) == 1 and self._is_quick() and self._idle():
            # Only this thread adds jobs, so no engine finds work before the call is over.
            self._finish(*self._call(self._engines[0], [job]))
            return await job.logits
        self._add(job)
        try:
            async with asyncio.timeout_at(deadline):
                return await job.logits
        except TimeoutError:
            raise _deadline_passed() from None
        finally:
            if job.logits.cancelled():
                self._remove(job)

    def _is_quick(self) -> bool:
        times = sorted(self._single_seconds)
        return bool(times) and times[len(times) // 2] < self._in_place_seconds

    def _idle(self) -> bool:
        with self._enough:
            return not (self._waiting or self._busy or self._closing)

    def _add(self, job: _Job) -> None:
        count = len(job.images)
        with self._enough:
            if self._closing:
                msg = "this version of the model is being stopped"
                raise RequestError(msg, Reason.UNAVAILABLE)
            if self._images + count > self._max_queue:
                msg = f"the queue is full: {self._images} images of at most {self._max_queue}; try again later"
                raise RequestError(msg, Reason.BUSY)
            self._waiting.append(job)
            self._images += count
            if self._has_enough():
                self._enough.notify()

    def _remove(self, job: _Job) -> None:
        with self._enough:
            if job in self._waiting:
                self._waiting.remove(job)
                self._images -= len(job.images)

    def _work(self, engine: Engine, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        while batch := self._gather():
            done = self._call(engine, batch)
            with self._enough:
                self._busy -= 1
            loop.call_soon_threadsafe(self._finish, *done)
        loop.call_soon_threadsafe(ended.set_result, None)

    def _gather(self) -> list[_Job]:
        """The jobs of the next call, in the order of their arrival; empty once the batcher is closed and finished."""
        with self._turn, self._enough:
            batch: list[_Job] = []
            while not batch and (self._waiting or not self._closing):
                self._wait_for(1, None)
                if self._waiting:
                    half = -(-(self._last + len(self._waiting)) // 2)
                    self._wait_for(half, self._waiting[0].arrived + self._max_delay)
                    batch = self._take()
            if batch:
                self._last = len(batch)
                self._busy += 1
            return batch

    def _has_enough(self) -> bool:
        return len(self._waiting) >= self._wanted or self._images >= self._max_batch

    def _wait_for(self, requests: int, deadline: float | None) -> None:
        self._wanted = requests
        while not (self._has_enough() or self._closing):
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

    def _call(self, engine: Engine, batch: list[_Job]) -> tuple[list[_Job], Array | None, Call]:
        started = time.monotonic()
        logits = self._run(engine, batch)
        images = sum(len(job.images) for job in batch)
        call = Call(images, tuple(started - job.arrived for job in batch), time.monotonic() - started)
        return batch, logits, call

    def _run(self, engine: Engine, batch: list[_Job]) -> Array | None:
        """The logits of a batch, NaN if the engine failed; None if there is not enough memory."""
        shape = sum(len(job.images) for job in batch), engine.spec.classes
        try:
            images = batch[0].images if len(batch) == 1 else np.concatenate([job.images for job in batch])
            logits = engine.logits(images)
            if logits.shape != shape:
                msg = f"it returned logits {list(logits.shape)} instead of {list(shape)}"
                raise ValueError(msg)
            return logits
        except MemoryError:
            _log.error("not enough memory for %d images", shape[0])
            return None
        except Exception:  # a third-party engine may raise anything, and its failure must not end the server
            _log.exception("the engine %s failed on %d images", engine.spec.name, shape[0])
            return np.full(shape, np.nan, np.float32)

    def _finish(self, batch: list[_Job], logits: Array | None, call: Call) -> None:
        self._observe(call)
        if call.images == 1:
            self._single_seconds.append(call.seconds)
        if logits is None:
            for job in batch:
                if not job.logits.done():
                    job.logits.set_exception(RequestError(NO_MEMORY, Reason.UNAVAILABLE))
            return
        finite = np.asarray(np.isfinite(logits).all(axis=1))
        start = 0
        for job in batch:
            own = slice(start, start + len(job.images))
            start = own.stop
            if job.logits.done():  # the client has disconnected
                continue
            if finite[own].all():
                job.logits.set_result(logits[own])
            else:
                job.logits.set_exception(RequestError("the engine failed on this request", Reason.FAILED))


def _deadline_passed() -> RequestError:
    return RequestError("the deadline of the request passed before it was processed", Reason.DEADLINE)
