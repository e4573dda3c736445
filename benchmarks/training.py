"""Holds the training loop against TRADES as published, for time, memory and robust accuracy, in one process.

    python benchmarks/training.py                                   # speed, on images of CIFAR's shape
    python benchmarks/training.py --side 8 --channels 1 --width 0.5 # and of the digits'
    python benchmarks/training.py --accuracy --seeds 0 1 2          # robust accuracy after equal epochs, on the digits
    python benchmarks/training.py --device cuda --arch resnet18 --batch 128 --width 1 --compile   # on a GPU

Speed: this package's loop as the stages run it (`Training`), the published loop, and the published loop with its most
obvious waste removed take turns, a step each, on the same random images, with the same network, optimiser and inner
steps. Rows: float32, bf16 autocast, and with --compile both through torch.compile, whose compilation is counted apart.
Times are given twice: of the clock, and of this process, which others on the machine disturb less; on a GPU only the
clock means something. Peak memory is measured in a process of each loop's own.

Accuracy: both loops train ResNet-18 on the digits from the same weights through the same epochs; PGD-20 then attacks
the 360 test images. Then the loop's own cheaper settings do the same. Differences are paired by image and seed.

Writes what it prints to benchmarks/results/training-NAME-MACHINE.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import training_accuracy
import training_speed

from tscnc_deploy.cli.common import machine

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--inner-steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7, help="steps of each loop that are timed")
    parser.add_argument("--warmup", type=int, default=2, help="steps before")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="add rows with train.compile = true")
    parser.add_argument("--accuracy", action="store_true", help="compare robust accuracy instead of speed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", nargs="*", help="accuracy: names of the settings to compare; all if not given")
    parser.add_argument("--name", help="of the result; otherwise from what is measured")
    arguments = parser.parse_args()

    record = {"machine": described(arguments.device), "settings": vars(arguments)}
    kind = "accuracy" if arguments.accuracy else "speed"
    record |= (training_accuracy if arguments.accuracy else training_speed).measure(arguments)
    name = arguments.name or (f"speed-{arguments.side}px" if kind == "speed" else "accuracy")
    path = RESULTS / f"training-{name}-{record['machine']['name']}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {path}")


def described(device: str) -> dict[str, object]:
    processor = machine.system()["cpu"]["model"]
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {
        "name": "-".join((gpu or processor).lower().replace("(r)", "").replace("(tm)", "").split()),
        "cpu": processor,
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
