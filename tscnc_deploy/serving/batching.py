"""Dynamic batching: requests that come together share one call of the engine."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tscnc_deploy.engines.base import Array, Engine
from tscnc_deploy.serving.refusal import Reason, Refusal

_log = logging.getLogger(__name__)


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


@dataclass(frozen=True, eq=False)
class _Job:
    images: Array
    answer: asyncio.Future[Array]
    arrived: float


class Batcher:
    """Gathers requests into calls; lives in one event loop, and each engine in a thread.

    A call waits for the next requests only as long as there are reasons to expect them: until it has as many images as
    the call before it, `max_batch` images, or the oldest has waited `max_delay`. A single client that waits for its
    answers is therefore never delayed, and many clients meet in one call.

    Args:
        engines: One per instance; each is called by one thread at a time.
        max_batch: Most images of one call; no request may have more.
        max_delay: Seconds.
        max_queue: Most images that wait; further requests are refused.
        observe: Is told of every call.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        max_batch: int,
        max_delay: float,
        max_queue: int,
        observe: Callable[[Call], None] = lambda call: None,
    ) -> None:
        self._engines = engines
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._max_queue = max(max_queue, max_batch)
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._images = 0
        self._last = 1
        self._wanted = 1
        self._enough = asyncio.Event()
        self._turn = asyncio.Lock()
        self._closing = False
        self._threads = ThreadPoolExecutor(len(engines), thread_name_prefix="engine")
        self._workers: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """Number of images that wait."""
        return self._images

    def start(self) -> None:
        """Begins to answer; must be called inside the event loop."""
        self._workers = [asyncio.create_task(self._work(engine)) for engine in self._engines]

    async def close(self) -> None:
        """Answers what waits, takes nothing more, and ends."""
        self._closing = True
        self._enough.set()
        await asyncio.gather(*self._workers)
        self._threads.shutdown()

    async def logits(self, images: Array, deadline: float | None = None) -> Array:
        """Logits of the images of one request, float32 [N, C, H, W] in [0, 1] -> float32 [N, K].

        Cancelling it takes the request out of the queue.

        Args:
            images: At most `max_batch`.
            deadline: When to give up, in the event loop's time; None never does.

        Raises:
            Refusal: The queue is full, the deadline has passed, the engine failed, or the batcher is closed.
        """
        if self._closing:
            msg = "this version of the model is being stopped"
            raise Refusal(msg, Reason.UNAVAILABLE)
        if self._images + len(images) > self._max_queue:
            msg = f"{self._images} images are waiting, {self._max_queue} may; try again later"
            raise Refusal(msg, Reason.BUSY)
        loop = asyncio.get_running_loop()
        job = _Job(images, loop.create_future(), loop.time())
        self._add(job)
        try:
            async with asyncio.timeout_at(deadline):
                return await job.answer
        except (TimeoutError, asyncio.CancelledError) as error:
            if job in self._waiting:
                self._waiting.remove(job)
                self._images -= len(images)
            if isinstance(error, asyncio.CancelledError):
                raise
            msg = "the deadline of the request passed before it was answered"
            raise Refusal(msg, Reason.DEADLINE) from None

    def _add(self, job: _Job) -> None:
        self._waiting.append(job)
        self._images += len(job.images)
        if self._images >= self._wanted:
            self._enough.set()

    async def _work(self, engine: Engine) -> None:
        while batch := await self._gather():
            await self._answer(engine, batch)

    async def _gather(self) -> list[_Job]:
        """The jobs of the next call, in the order of their arrival; none when the batcher is closed and empty."""
        async with self._turn:
            batch: list[_Job] = []
            while not batch and (self._waiting or not self._closing):
                await self._until(1, None)
                if self._waiting:
                    await self._until(min(self._last, self._max_batch), self._waiting[0].arrived + self._max_delay)
                    batch = self._take()
        if batch:
            self._last = sum(len(job.images) for job in batch)
        return batch

    async def _until(self, images: int, deadline: float | None) -> None:
        self._wanted = images
        while self._images < images and not self._closing:
            self._enough.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._enough.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Job]:
        batch: list[_Job] = []
        room = self._max_batch
        while self._waiting and len(self._waiting[0].images) <= room:
            job = self._waiting.popleft()
            room -= len(job.images)
            self._images -= len(job.images)
            batch.append(job)
        return batch

    async def _answer(self, engine: Engine, batch: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        images = batch[0].images if len(batch) == 1 else np.concatenate([job.images for job in batch])
        started = loop.time()
        try:
            logits = await loop.run_in_executor(self._threads, engine.logits, images)
        except Exception:  # an engine may be anybody's, and its failure must not end the server
            _log.exception("the engine %s failed on %d images", engine.spec.name, len(images))
            logits = np.full((len(images), engine.spec.classes), np.nan, np.float32)
        self._observe(Call(len(images), tuple(started - job.arrived for job in batch), loop.time() - started))
        start = 0
        for job in batch:
            own = logits[start : start + len(job.images)]
            start += len(job.images)
            if job.answer.done():  # its client has gone
                continue
            if np.isfinite(own).all():
                job.answer.set_result(own)
            else:
                job.answer.set_exception(Refusal("the engine failed on this request", Reason.FAILED))
