from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscnc_deploy.engines.base import EngineSpec
from tscnc_deploy.serving.batching import Batcher
from tscnc_deploy.serving.errors import Reason, RequestError

SPEC = EngineSpec("echo", "test", (1, 1, 2), 2, "fp32", "none", batch_max=8)


class Echo:
    """Its logits are the image's two pixels; remembers the sizes of its batches, and can be held up."""

    spec = SPEC

    def __init__(self):
        self.sizes = []
        self.go = threading.Event()
        self.go.set()

    def logits(self, images):
        self.sizes.append(len(images))
        assert self.go.wait(10)
        return images.reshape(len(images), 2)


def batcher(*engines, **options):
    return Batcher(engines, **({"max_batch": 8, "max_delay": 0.002, "max_queue": 64} | options))


def run(body):
    async def bounded():
        async with asyncio.timeout(20):
            return await body()

    return asyncio.run(bounded())


def images(number, count=1):
    return np.array([[[[number, place]]] for place in range(count)], np.float32)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=40),
    pauses=st.lists(st.booleans(), min_size=40, max_size=40),
    instances=st.integers(1, 3),
    delay=st.sampled_from([0, 0.001]),
    in_place=st.booleans(),
)
def test_every_request_gets_its_own_response_in_its_own_order(sizes, pauses, instances, delay, in_place):
    engines = [Echo() for _ in range(instances)]

    async def body():
        made = batcher(*engines, max_delay=delay, max_queue=1000, in_place_seconds=10.0 if in_place else 0.0)
        made.start()
        asked = []
        for number, size in enumerate(sizes):
            asked.append(asyncio.create_task(made.logits(images(number, size))))
            if pauses[number]:
                await asyncio.sleep(0)
        responses = await asyncio.gather(*asked)
        await made.close()
        return responses

    for number, (size, response) in enumerate(zip(sizes, run(body), strict=True)):
        assert response.tolist() == [[number, place] for place in range(size)]
    assert sum(sum(engine.sizes) for engine in engines) == sum(sizes)
    assert max(max(engine.sizes, default=0) for engine in engines) <= 8


def test_requests_that_wait_share_a_call_and_the_next_call_waits_for_half_of_those_under_way():
    engine = Echo()

    async def body():
        made = batcher(engine, max_delay=5.0)
        made.start()
        engine.go.clear()
        first = asyncio.create_task(made.logits(images(0)))
        while not engine.sizes:
            await asyncio.sleep(0)
        others = [asyncio.create_task(made.logits(images(number))) for number in range(1, 5)]
        await asyncio.sleep(0)
        engine.go.set()
        await asyncio.gather(first, *others)
        # Four have been answered and may ask again. Two of them are too few to begin with, three are enough.
        asked = [asyncio.create_task(made.logits(images(number))) for number in range(2)]
        await asyncio.sleep(0.05)
        assert engine.sizes == [1, 4]
        await asyncio.gather(made.logits(images(2)), *asked)
        await made.close()

    run(body)
    assert engine.sizes == [1, 4, 3]


def test_in_place_the_event_loop_computes_single_images_while_nothing_else_does():
    threads = []

    class Watched(Echo):
        def logits(self, images):
            threads.append(threading.current_thread())
            return super().logits(images)

    engine = Watched()

    async def body():
        made = batcher(engine, in_place_seconds=10.0)
        made.start()
        await made.logits(images(0))  # nobody knows yet how long it takes
        await made.logits(images(0))
        await made.logits(images(1, 2))
        engine.go.clear()
        held = asyncio.create_task(made.logits(images(2, 2)))
        while len(engine.sizes) < 4:
            await asyncio.sleep(0)
        behind = asyncio.create_task(made.logits(images(3)))
        await asyncio.sleep(0)
        engine.go.set()
        await asyncio.gather(held, behind)
        await made.close()

    run(body)
    here = threading.main_thread()
    assert list(zip(engine.sizes, (thread is here for thread in threads), strict=True)) == [
        (1, False),
        (1, True),
        (2, False),
        (2, False),
        (1, False),
    ]


def test_an_engine_that_has_become_slow_leaves_the_event_loop():
    threads = []

    class Slower(Echo):
        def logits(self, images):
            threads.append(threading.current_thread())
            if len(threads) != 3:
                time.sleep(0.05)
            return super().logits(images)

    async def body():
        made = batcher(Slower(), in_place_seconds=0.05, single_seconds=[0.0] * 5)
        made.start()
        for number in range(9):
            await made.logits(images(number))
        await made.close()

    run(body)
    # One slow call says nothing; with the seventh, six of twelve were slow.
    assert [thread is threading.main_thread() for thread in threads] == [True] * 7 + [False] * 2


def test_a_lone_client_never_waits_for_others():
    engine = Echo()

    async def body():
        made = batcher(engine, max_delay=60.0)
        made.start()
        for size in (1, 1, 8, 1, 4, 2):
            await made.logits(images(0, size))
        await made.close()

    run(body)
    assert engine.sizes == [1, 1, 8, 1, 4, 2]


def held_up(body):
    """Runs the body with a batcher whose engine is busy until it is told to go on."""
    engine = Echo()

    async def whole():
        made = batcher(engine, max_queue=8)
        made.start()
        engine.go.clear()
        busy = asyncio.create_task(made.logits(images(100)))
        while not engine.sizes:
            await asyncio.sleep(0)
        try:
            return await body(made)
        finally:
            engine.go.set()
            await busy
            await made.close()

    return run(whole), engine


def test_a_full_queue_rejects():
    async def body(made):
        waiting = asyncio.create_task(made.logits(images(1, 8)))
        await asyncio.sleep(0)
        assert made.waiting == 8
        with pytest.raises(RequestError, match="the queue is full: 8 images of at most 8") as rejected:
            await made.logits(images(2))
        assert rejected.value.reason is Reason.BUSY
        waiting.cancel()

    held_up(body)


def test_a_request_that_comes_too_late_is_not_computed():
    engine = Echo()

    async def body():
        made = batcher(engine, in_place_seconds=10.0)
        made.start()
        await made.logits(images(0))
        with pytest.raises(RequestError, match="deadline") as rejected:
            await made.logits(images(1), asyncio.get_running_loop().time() - 0.01)
        assert rejected.value.reason is Reason.DEADLINE
        await made.close()

    run(body)
    assert engine.sizes == [1]


@pytest.mark.parametrize("response", [np.zeros((1, 2)), np.zeros(2), None, ValueError("no")])
def test_an_engine_that_returns_nonsense_fails_its_batch_and_goes_on(caplog, response):
    class Odd(Echo):
        def logits(self, images):
            if len(images) == 1:
                return super().logits(images)
            if isinstance(response, Exception):
                raise response
            return response

    async def body():
        made = batcher(Odd())
        made.start()
        with pytest.raises(RequestError, match="the engine failed on this request"):
            await made.logits(images(7, 2))
        assert (await made.logits(images(3))).tolist() == [[3, 0]]
        await made.close()

    run(body)
    assert "failed on 2 images" in caplog.text


def test_a_batch_for_which_there_is_no_memory_can_be_tried_again(caplog):
    class Full(Echo):
        def logits(self, images):
            if len(images) == 2:
                raise MemoryError
            return super().logits(images)

    async def body():
        made = batcher(Full())
        made.start()
        with pytest.raises(RequestError, match="not enough memory") as rejected:
            await made.logits(images(7, 2))
        assert rejected.value.reason is Reason.UNAVAILABLE
        assert (await made.logits(images(3))).tolist() == [[3, 0]]
        await made.close()

    run(body)
    assert caplog.messages == ["not enough memory for 2 images"]


def test_a_request_past_its_deadline_leaves_the_queue():
    async def body(made):
        with pytest.raises(RequestError, match="deadline") as rejected:
            await made.logits(images(1), asyncio.get_running_loop().time() + 0.01)
        assert rejected.value.reason is Reason.DEADLINE
        assert made.waiting == 0

    assert held_up(body)[1].sizes == [1]


def test_a_cancelled_request_leaves_the_queue():
    async def body(made):
        task = asyncio.create_task(made.logits(images(1)))
        await asyncio.sleep(0)
        assert made.waiting == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made.waiting == 0

    assert held_up(body)[1].sizes == [1]


def test_closing_finishes_what_waits_and_accepts_nothing_more():
    engine = Echo()

    async def body():
        made = batcher(engine)
        made.start()
        asked = [asyncio.create_task(made.logits(images(number))) for number in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="being stopped"):
            await made.logits(images(9))
        await closing
        return [(await task).tolist() for task in asked]

    assert run(body) == [[[0, 0]], [[1, 0]], [[2, 0]]]


def test_an_engine_that_fails_loses_its_batch_and_goes_on(caplog):
    class Failing(Echo):
        def logits(self, images):
            if images.max() > 5:
                raise RuntimeError("out of memory at 0x1234")
            return super().logits(images)

    async def body():
        made = batcher(Failing())
        made.start()
        with pytest.raises(RequestError, match="the engine failed on this request") as rejected:
            await made.logits(images(7))
        assert rejected.value.reason is Reason.FAILED
        response = await made.logits(images(3))
        await made.close()
        return response.tolist()

    assert run(body) == [[3, 0]]
    assert "0x1234" in caplog.text


def test_logits_that_are_not_finite_fail_their_own_request_only():
    async def body():
        made = batcher(Echo())
        made.start()
        good, bad = await asyncio.gather(made.logits(images(1)), made.logits(images(np.inf)), return_exceptions=True)
        await made.close()
        return good, bad

    good, bad = run(body)
    assert good.tolist() == [[1, 0]]
    assert isinstance(bad, RequestError)
