from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from tscnc_deploy.bundle import open_bundle
from tscnc_deploy.serving.loading import open_model
from tscnc_deploy.serving.metrics import Metrics
from tscnc_deploy.serving.service import Limits, Service


@pytest.mark.parametrize(("limit", "in_place"), [(10.0, True), (None, False)])
def test_single_images_of_fast_engines_are_computed_in_the_event_loop(served_bundle, monkeypatch, limit, in_place):
    if limit is not None:  # above what the sleep takes on the slowest machine
        monkeypatch.setattr("tscnc_deploy.serving.service._IN_PLACE_SECONDS", limit)
    threads = []

    class Watched:
        def __init__(self, engine):
            self.engine, self.spec = engine, engine.spec

        def logits(self, images):
            threads.append(threading.current_thread())
            time.sleep(0.01)
            return self.engine.logits(images)

    def opened(version):
        model = open_model(open_bundle(served_bundle), version=version, threads=1, page=False)
        return replace(model, engines=tuple(Watched(engine) for engine in model.engines))

    async def ask():
        service = Service(opened, Limits(), Metrics())
        await service.start()
        threads.clear()
        for _ in range(3):
            await service.current.batcher.logits(np.zeros((1, 1, 8, 8), np.float32))
        await service.stop()

    asyncio.run(ask())
    assert [thread is threading.main_thread() for thread in threads] == [in_place] * 3


def test_a_reload_that_ends_after_the_stop_switches_to_nothing(served_bundle):
    opening, stopped = threading.Event(), threading.Event()

    def opened(version):
        if version == "2":
            opening.set()
            assert stopped.wait(30)
        return open_model(open_bundle(served_bundle), version=version, threads=1, page=False)

    def engine_threads():
        return [thread for thread in threading.enumerate() if thread.name.startswith("engine-")]

    async def stop_during_a_reload():
        service = Service(opened, Limits(), Metrics())
        await service.start()
        reload = asyncio.create_task(service.reload())
        await asyncio.to_thread(opening.wait, 30)
        await service.stop()
        stopped.set()
        await reload
        return service.current.model.version

    before = engine_threads()
    assert asyncio.run(stop_during_a_reload()) == "1"
    for thread in set(engine_threads()) - set(before):
        thread.join(10)
    assert set(engine_threads()) <= set(before)
