"""Robust accuracy on the digits after equal epochs: this loop, the published one, cheaper ones; see training.py."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from trades_reference import Reference

from tscnc_deploy import data, models
from tscnc_deploy.data import Dataset
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.robustness import ModelVictim, Threat, evaluate, parse_attacks
from tscnc_deploy.robustness.statistics.intervals import accuracy, tango_upper_bound
from tscnc_deploy.training.criteria import Sparsifier
from tscnc_deploy.training.loop import Phase, Training
from tscnc_deploy.training.optim import learning_rate

EPSILON = 0.1
FULL = {
    "epochs": 10, "clean_epochs": 2, "ramp_epochs": 4, "batch_size": 64, "optimizer": "adamw", "lr": 0.002,
    "weight_decay": 0.01, "schedule": "one-cycle", "inner_steps": 10, "inner_step_size": 0.25, "precision": "fp32",
}  # fmt: skip
# What each changes of the full loop.
SETTINGS = {
    "full": {},
    "bf16": {"precision": "bf16"},
    "5 steps of 0.4": {"inner_steps": 5, "inner_step_size": 0.4},
    "3 steps of 0.5": {"inner_steps": 3, "inner_step_size": 0.5},
    "2 steps of 0.75": {"inner_steps": 2, "inner_step_size": 0.75},
    "1 step of 1.25": {"inner_steps": 1, "inner_step_size": 1.25},
    "epsilon ramped to the end": {"ramp_epochs": 8},
    "4 clean epochs": {"clean_epochs": 4},
    "batch 128, rate 2x": {"batch_size": 128, "lr": 0.004},
    "batch 128, rate 1.4x": {"batch_size": 128, "lr": 0.0028},
}


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    names = arguments.only or ["published", *SETTINGS]
    dataset = data.load(Recipe().data.model_copy(update={"validation": 0.0}))
    standing: dict[str, list[Tensor]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for seed in arguments.seeds:
        for name in names:
            started = time.process_time()
            trained = published if name == "published" else here
            model = trained(dataset, arguments, FULL | {"epochs": arguments.epochs} | SETTINGS.get(name, {}), seed)
            seconds[name].append(round(time.process_time() - started, 1))
            clean, stands = judged(model, dataset, arguments)
            standing[name].append(stands)
            print(
                f"seed {seed}  {name:26} clean {clean:6.2%}  robust {stands.float().mean().item():6.2%}"
                f"  {seconds[name][-1]:7.1f} s of the process",
                flush=True,
            )
    rows = {name: row(standing[name], standing.get("full"), seconds[name], seconds.get("full")) for name in names}
    for name, figures in rows.items():
        print(f"{name:26} {figures}")
    return {"epsilon": EPSILON, "attack": "pgd-20", "full": FULL, "changes": SETTINGS, "rows": rows}


def row(
    standing: list[Tensor], full: list[Tensor] | None, seconds: list[float], full_seconds: list[float] | None
) -> dict[str, object]:
    """Counts over all seeds, and the difference from the full loop on the same images from the same weights."""
    stands = torch.cat(standing)
    figures = {
        "robust": accuracy(int(stands.sum()), len(stands)).to_json(),
        "robust_by_seed": [int(one.sum()) for one in standing],
        "process_seconds": seconds,
    }
    if full is not None and full_seconds is not None and full is not standing:
        whole = torch.cat(full)
        lost, gained = int((whole & ~stands).sum()), int((~whole & stands).sum())
        figures |= {
            "points_over_full": round(100 * (gained - lost) / len(stands), 2),
            "lost": lost,
            "gained": gained,
            # Images of one test set count once per seed, so the bound speaks of these images, not of others.
            "points_lost_at_most": round(100 * tango_upper_bound(lost, gained, len(stands)), 2),
            "times_faster": round(sum(full_seconds) / sum(seconds), 2),
        }
    return figures


def here(dataset: Dataset, arguments: argparse.Namespace, settings: dict[str, object], seed: int) -> nn.Module:
    recipe = Recipe.model_validate(
        {"seed": seed, "threat": {"epsilon": EPSILON}, "train": settings, "constrain": {"constraint": "none"}}
    )
    train, model = recipe.train, fresh(dataset, arguments, seed)
    phase = Phase(
        "train", train.epochs, train.lr, train.schedule, train.clean_epochs, train.ramp_epochs, early_stop=False
    )
    with tempfile.TemporaryDirectory() as folder:
        device = torch.device(arguments.device)
        Training(model, dataset, recipe, phase, device, Path(folder) / "c.pt").run(Sparsifier(), lambda *_: None)
    return model


def published(dataset: Dataset, arguments: argparse.Namespace, settings: dict[str, object], seed: int) -> nn.Module:
    """The published loop under the same schedules of rate, epsilon and beta."""
    device = torch.device(arguments.device)
    model, images = fresh(dataset, arguments, seed).to(device), dataset.train.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"])
    noise, order = torch.Generator(device).manual_seed(seed), torch.Generator().manual_seed(seed)
    loop = Reference(model, optimizer, EPSILON, 6.0, settings["inner_steps"], settings["inner_step_size"], noise)
    batches = len(images) // settings["batch_size"]
    begin, length = settings["clean_epochs"] * batches, settings["ramp_epochs"] * batches
    for epoch in range(settings["epochs"]):
        rows = torch.randperm(len(images), generator=order).split(settings["batch_size"])
        for number, index in enumerate(rows[:batches]):
            step = epoch * batches + number
            rate = learning_rate(
                step, settings["epochs"] * batches, peak=settings["lr"], schedule="one-cycle", warmup=0.2
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            loop.step(*images.batch(index), min(max(step - begin + 1, 0) / length, 1.0) if step >= begin else 0.0)
    return model.eval()


def fresh(dataset: Dataset, arguments: argparse.Namespace, seed: int) -> models.Classifier:
    mean, std = dataset.channel_statistics()
    return models.build(
        arguments.arch,
        classes=10,
        input_shape=dataset.input_shape,
        mean=mean,
        std=std,
        width=arguments.width,
        seed=seed,
    )


def judged(model: nn.Module, dataset: Dataset, arguments: argparse.Namespace) -> tuple[float, Tensor]:
    """Clean accuracy on the test images, and which of them stand, [360]."""
    images, labels = dataset.test.to(arguments.device).batch(torch.arange(len(dataset.test)))
    found = evaluate(ModelVictim(model.eval()), images, labels, Threat(epsilon=EPSILON), parse_attacks(["pgd-20"]))
    return found.clean.accuracy, found.robust_mask.cpu()
