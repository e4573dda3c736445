"""Compares the attacks with the reference implementation of AutoAttack, for strength and for time, in one run.

    python benchmarks/attacks_reference.py [--model plain] [--images 512] [--epsilon 0.15] [--device cpu] [--seed 0]

Trains a network adversarially on scikit-learn's digits, then attacks the same images with the ensemble and with single
attacks, here and in pyautoattack 0.2.0 (pip install --no-deps pyautoattack==0.2.0), at the same steps, restarts,
targets and queries. The network is a plain one of three convolutions, or this package's ResNet-18 of half width.
Writes what it prints to benchmarks/results/attacks_reference-MODEL-MACHINE.json.

Times are given twice: of the clock, and of this process on all its cores, which other processes disturb less. The
single Square of the reference gets its rescaled schedule, which is the one that is used here; in the ensemble it has
its own, which is meant for twice as many queries. It stays weaker on such small images, because it never places a
square at the last row or column.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from tscnc_deploy import models
from tscnc_deploy.engines.processor import processor
from tscnc_deploy.robustness import Evaluation, ModelVictim, Threat, evaluate, parse_attacks

RESULTS = Path(__file__).parent / "results"
BATCH = 256
# Of the training; smaller than the radius of the attacks, so that they have something to find.
RADIUS = 0.1
# The names of an attack here and there, at equal settings; an ensemble is one row of the table.
ENSEMBLE = ("autoattack-standard", ["apgd-ce", "apgd-t", "fab-t", "square"])
SINGLES = [
    ("apgd-ce-100", "apgd-ce"),
    ("apgd-dlr-100", "apgd-dlr"),
    ("apgd-t-100", "apgd-t"),
    ("fab-t-100", "fab-t"),
    ("square-5000", "square"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["plain", "resnet18"], default="plain")
    parser.add_argument("--ensemble-only", action="store_true", help="leave out the single attacks")
    parser.add_argument("--images", type=int, default=512, help="how many of the 597 test images to attack")
    parser.add_argument("--epsilon", type=float, default=0.15)
    parser.add_argument("--norm", choices=["Linf", "L2"], default="Linf")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        import pyautoattack  # noqa: F401
    except ImportError:
        parser.exit(2, "pyautoattack is not installed; run: pip install --no-deps pyautoattack==0.2.0\n")

    started = time.perf_counter()
    model, images, labels = trained_digits(arguments.model, arguments.seed, arguments.device)
    images, labels = images[: arguments.images], labels[: arguments.images]
    threat = Threat(norm=arguments.norm, epsilon=arguments.epsilon)
    record = {
        "model": arguments.model,
        "images": len(images),
        "norm": threat.norm,
        "epsilon": threat.epsilon,
        "seed": arguments.seed,
        "batch_size": BATCH,
        "training_seconds": round(time.perf_counter() - started, 1),
        "machine": machine(arguments.device),
        "reference": "pyautoattack 0.2.0",
        "attacks": {},
    }
    print(f"{'':22}{'standing':>20}{'':8}{'seconds':>20}{'CPU seconds':>20}{'speedup':>15}")
    print(
        f"{'attack':22}{'here':>9}{'reference':>11}{'points':>8}"
        + f"{'here':>9}{'reference':>11}" * 2
        + "   clock    CPU"
    )
    singles = [] if arguments.ensemble_only else [(mine, [theirs]) for mine, theirs in SINGLES]
    for mine, theirs in [ENSEMBLE, *singles]:
        row = compare(model, images, labels, threat, mine, theirs, arguments)
        record["attacks"][mine] = row
        print(
            f"{mine:22}{row['accuracy']:9.2%}{row['reference_accuracy']:11.2%}{row['difference_points']:+8.2f}"
            f"{row['seconds']:9.1f}{row['reference_seconds']:11.1f}"
            f"{row['cpu_seconds']:9.1f}{row['reference_cpu_seconds']:11.1f}"
            f"{row['speedup']:7.2f}x{row['cpu_speedup']:6.2f}x",
            flush=True,
        )
    RESULTS.mkdir(exist_ok=True)
    parts = ["attacks_reference", arguments.model, machine_name(arguments.device), *["L2"] * (threat.norm == "L2")]
    name = f"{'-'.join(parts)}.json"
    (RESULTS / name).write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {RESULTS / name}")


def compare(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    mine: str,
    theirs: list[str],
    arguments: argparse.Namespace,
) -> dict[str, object]:
    """One row: robust accuracy and wall time of both, on the same images."""
    started = clocks()
    result = here(model, images, labels, threat, mine, arguments.seed)
    (seconds, cpu_seconds), started = since(started), clocks()
    found = there(model, images, labels, threat, theirs, arguments)
    reference_seconds, reference_cpu_seconds = since(started)
    with torch.no_grad():
        stands = model(threat.project(found, images)).argmax(1) == labels
    accuracy, reference = result.robust.accuracy, stands.float().mean().item()
    return {
        "clean": result.clean.accuracy,
        "accuracy": accuracy,
        "standing_after": {name: share.correct for name, share in result.attacks.items()},
        "reference_accuracy": reference,
        "difference_points": round(100 * (accuracy - reference), 3),
        "only_broken_here": int((stands.cpu() & ~result.robust_mask).sum()),
        "only_broken_there": int((~stands.cpu() & result.robust_mask).sum()),
        "seconds": round(seconds, 2),
        "reference_seconds": round(reference_seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "reference_cpu_seconds": round(reference_cpu_seconds, 2),
        "speedup": round(reference_seconds / seconds, 2),
        "cpu_speedup": round(reference_cpu_seconds / cpu_seconds, 2),
    }


def clocks() -> tuple[float, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def since(started: tuple[float, float]) -> tuple[float, float]:
    now = clocks()
    return now[0] - started[0], now[1] - started[1]


def here(model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, name: str, seed: int) -> Evaluation:
    attacks = parse_attacks([name])
    return evaluate(ModelVictim(model), images, labels, threat, attacks, seed=seed, batch_size=BATCH, cascade=True)


def there(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    names: list[str],
    arguments: argparse.Namespace,
) -> Tensor:
    from pyautoattack import AutoAttack

    # Version "standard" sets one restart and 9 targets; the attacks to run are then replaced by those asked for.
    reference = AutoAttack(model, device=arguments.device, eps=threat.epsilon, norm=threat.norm, seed=arguments.seed)
    reference.verbose = False
    reference.attacks_to_run = names
    reference.square.rescale_schedule = names == ["square"]
    found = reference.run_standard_evaluation(images, labels, batch_size=BATCH)
    return found[0] if isinstance(found, tuple) else found


def plain(seed: int) -> nn.Module:
    """Three convolutions and a linear layer, without batch norm."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(1024, 10),
        )


def resnet18(seed: int) -> nn.Module:
    """What is built here, at half the width."""
    return models.build("resnet18", classes=10, input_shape=(1, 8, 8), mean=(0.31,), std=(0.37,), width=0.5, seed=seed)


def trained_digits(name: str, seed: int, device: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A network trained on PGD examples of 1200 digits, and the 597 others with their labels."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    train, test = order[:1200], order[1200:]
    model = plain(seed) if name == "plain" else resnet18(seed)
    # Trained on the CPU, whatever is attacked on, so that it is the same network everywhere up to rounding.
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(25):
        for rows in train[torch.randperm(len(train), generator=generator)].split(100):
            clean, target = images[rows], labels[rows]
            points = clean + RADIUS * (2 * torch.rand(clean.shape, generator=generator) - 1)
            for _ in range(5):
                points = points.clamp(0, 1).requires_grad_()
                (slope,) = torch.autograd.grad(F.cross_entropy(model.eval()(points), target), points)
                points = (points + RADIUS / 3 * slope.sign()).detach().clamp(clean - RADIUS, clean + RADIUS)
            optimizer.zero_grad()
            F.cross_entropy(model.train()(points.clamp(0, 1)), target).backward()
            optimizer.step()
    return model.eval().to(device), images[test].to(device), labels[test].to(device)


def machine(device: str) -> dict[str, object]:
    return {
        "cpu": processor()["model"],
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def machine_name(device: str) -> str:
    name = torch.cuda.get_device_name() if device.startswith("cuda") else processor()["model"]
    return "-".join(name.lower().replace("(r)", "").replace("(tm)", "").split())


if __name__ == "__main__":
    main()
