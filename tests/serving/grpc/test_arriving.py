from __future__ import annotations

import asyncio

import pytest

from tscnc_deploy.serving.errors import Reason, RequestError
from tscnc_deploy.serving.grpc import arriving
from tscnc_deploy.serving.grpc.arriving import Arriving

LARGEST = 16 << 20  # so that four may arrive


async def message(data=b"whole", after=0.0):
    await asyncio.sleep(after)
    yield data


async def never():
    await asyncio.sleep(3600)
    yield b""


async def none():
    return
    yield


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


def test_a_message_is_read():
    assert run(Arriving(LARGEST, 5).read(message())) == b"whole"


def test_a_call_without_a_message_is_bad_input():
    with pytest.raises(RequestError, match="the call has no message"):
        run(Arriving(LARGEST, 5).read(none()))


def test_a_message_that_does_not_arrive_is_too_slow():
    with pytest.raises(RequestError, match=r"did not arrive within 0\.1 seconds") as slow:
        run(Arriving(LARGEST, 0.1).read(never()))
    assert slow.value.reason is Reason.TOO_SLOW


def test_messages_that_never_arrive_keep_nobody_out(monkeypatch):
    monkeypatch.setattr(arriving, "_PATIENCE", 0.1)

    async def scenario():
        reads = Arriving(LARGEST, 3600)
        stuck = [asyncio.create_task(reads.read(never())) for _ in range(6)]
        await asyncio.sleep(0.05)
        assert await reads.read(message()) == b"whole"
        ended = [task for task in stuck if task.done()]
        assert ended
        assert all(isinstance(task.exception(), RequestError) for task in ended)
        for task in stuck:
            task.cancel()

    run(scenario())


def test_a_burst_of_messages_is_read_in_turn():
    async def scenario():
        reads = Arriving(LARGEST, 5)
        return await asyncio.gather(*(reads.read(message(bytes([number]), after=0.005)) for number in range(200)))

    assert run(scenario()) == [bytes([number]) for number in range(200)]
