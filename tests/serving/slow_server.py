"""A server whose engine takes a tenth of a second for each image, or as long as its argument says.

Run as a program by test_server.
"""

from __future__ import annotations

import json
import sys
import time

from tests.serving.bundles import SHAPE, expected
from tscnc_deploy.engines.base import CheckedEngine, EngineSpec
from tscnc_deploy.serving.model import Model
from tscnc_deploy.serving.server import Address, Started, run
from tscnc_deploy.serving.service import Limits

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 0.1


class Slow(CheckedEngine):
    def __init__(self):
        super().__init__(EngineSpec("slow", "test", SHAPE, 3, "fp32", "none", batch_max=1))

    def _run(self, images):
        time.sleep(SECONDS if images.any() else 0.01)  # zeros warm it up
        return expected(images)


def show(started: Started) -> None:
    document = {"http": started.http, "grpc": started.grpc}
    print(json.dumps(document, indent=2), flush=True)


if __name__ == "__main__":
    run(
        lambda version: Model("tiny", version, "0" * 64, (Slow(),), ("zero", "one", "two"), True, {}),
        Address(port=0, grpc_port=0),
        Limits(max_queue=64),
        started=show,
        stop_seconds=1.0 if SECONDS > 1 else 30.0,
    )
