"""What waiting costs: a training step under each way in which OpenMP's threads may wait, alone and beside others.

    python -m benchmarks.threads [--rounds 3] [--sides 8 32] [--waiting default passive ...] [--name NAME]

One step of the default recipe (ResNet-18, TRADES) on 8x8 images, and of a ResNet-18 of quarter width on 32x32 images.
Each way is measured in a fresh process, because OpenMP reads its environment once; the ways take turns. Ratios are of
medians, to the runtime's own default in the same situation. Writes benchmarks/results/threads-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

POLICIES = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin-1000": {"GOMP_SPINCOUNT": "1000"},
    "spin-10000": {"GOMP_SPINCOUNT": "10000"},
    "spin-100000": {"GOMP_SPINCOUNT": "100000"},
}
STEPS = {8: 5, 32: 3}

CHILD = """
import json, sys, time
import torch
from tscnc_deploy import models
from tscnc_deploy.training.trades import Adversary, trades_loss
from tscnc_deploy.models.folded import FoldedCopy
from tscnc_deploy.models.taps import cropped

found = {}
for side, width, batch in ((8, 1.0, 64), (32, 0.25, 32)):
    steps = json.loads(sys.argv[1]).get(str(side), 0)
    if not steps:
        continue
    shape = (1, side, side)
    model = models.build("resnet18", classes=10, input_shape=shape, mean=(0.5,), std=(0.5,), width=width, seed=0)
    network, attacked = cropped(model, shape).train(), FoldedCopy(model, input_shape=shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    images, labels = torch.rand(batch, *shape), torch.arange(batch) % 10
    adversary = Adversary(0.1, 6.0, 3, 0.5)
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        optimizer.zero_grad()
        trades_loss(network, attacked.refreshed, images, labels, adversary, torch.Generator().manual_seed(0)).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    found[side] = seconds[1:]
print(json.dumps({"seconds": found, "threads": torch.get_num_threads()}))
"""
BUSY = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", type=int, nargs="+", choices=tuple(STEPS), default=tuple(STEPS))
    parser.add_argument("--waiting", nargs="+", choices=tuple(POLICIES), default=tuple(POLICIES))
    parser.add_argument("--name", default="here")
    arguments = parser.parse_args()
    seconds: dict[tuple[str, str, str], list[float]] = {}
    threads = 0
    steps = {side: STEPS[side] for side in arguments.sides}
    waiting = dict.fromkeys(["default", *arguments.waiting])
    for _ in range(arguments.rounds):
        for situation in ("alone", "beside a busy process"):
            busy = subprocess.Popen([sys.executable, "-c", BUSY]) if situation != "alone" else None
            try:
                for policy in waiting:
                    measured = step_seconds(POLICIES[policy], steps)
                    threads = measured["threads"]
                    for side, values in measured["seconds"].items():
                        seconds.setdefault((situation, side, policy), []).extend(values)
            finally:
                if busy is not None:
                    busy.kill()
                    busy.wait()
    rows = []
    for (situation, side, policy), values in seconds.items():
        median, default = statistics.median(values), statistics.median(seconds[situation, side, "default"])
        alone = statistics.median(seconds["alone", side, policy])
        rows.append(
            {
                "situation": situation,
                "side": int(side),
                "waiting": policy,
                "median_seconds": round(median, 4),
                "of_default": round(median / default, 3),
                "of_alone": round(median / alone, 3),
            }
        )
        print(f"{situation:22} {side:>2}x{side:<2} {policy:12} {median:7.3f} s  {median / default:5.2f} of the default")
    from tscnc_deploy.engines.processor import processor

    found = {"machine": processor() | {"threads": threads, "cpu_capability": os.environ.get("ATEN_CPU_CAPABILITY")}}
    path = Path(__file__).parent / "results" / f"threads-{arguments.name}.json"
    path.write_text(json.dumps(found | {"rounds": arguments.rounds, "steps": rows}, indent=1) + "\n", encoding="utf-8")


def step_seconds(variables: dict[str, str], steps: dict[int, int]) -> dict[str, Any]:
    """Seconds of that many steps, by side of the images, in a process with these variables and no others for OpenMP."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(steps)],
        env=environment | variables, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
