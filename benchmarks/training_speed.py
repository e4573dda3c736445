"""Seconds per step, peak memory, and where the time goes; see training.py."""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from trades_reference import Reference

from tscnc_deploy import models
from tscnc_deploy.data import Dataset, Split, augment
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.training.criteria import Sparsifier
from tscnc_deploy.training.loop import Phase, Training


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    precisions = [("float32", {"precision": "fp32"}), ("bf16", {"precision": "bf16"})]
    if arguments.compile:
        precisions += [(f"{name}, compiled", settings | {"compile": True}) for name, settings in precisions]
    rows, memory = {}, {}
    for name, settings in precisions:
        rows[name] = compare(arguments, settings)
        show(name, rows[name])
    for name, settings in [("published", None), ("published, hoisted", None), *precisions]:
        memory[name] = alone(peak_memory, arguments, name, settings)
        print(f"{name:24} peak memory {memory[name] / 2**20:8.0f} MiB", flush=True)
    return {"rows": rows, "peak_bytes": memory, "shares": shares(arguments)}


def compare(arguments: argparse.Namespace, settings: dict[str, object]) -> dict[str, object]:
    """Ours and both forms of the reference take turns."""
    peers = {"published": reference(arguments), "published, hoisted": reference(arguments, hoisted=True)}
    data = dataset(arguments)
    times: dict[str, list[tuple[float, float]]] = {"here": [], **{name: [] for name in peers}}
    began = clocks(arguments)

    def on_step(_done: int, _steps: int, _figures: dict[str, float]) -> None:
        nonlocal began
        times["here"].append(since(began, arguments))
        for number, (name, peer) in enumerate(peers.items()):
            index = torch.randint(len(data.train), (arguments.batch,), generator=torch.Generator().manual_seed(number))
            began = clocks(arguments)
            images, labels = data.train.batch(index)
            peer.step(augment(images, "crop-flip", torch.Generator().manual_seed(number)), labels)
            times[name].append(since(began, arguments))
        began = clocks(arguments)

    train(arguments, settings, data, on_step)
    timed = {name: both[arguments.warmup :] for name, both in times.items()}
    clock = 0 if arguments.device != "cpu" else 1
    here, result = [both[clock] for both in timed["here"]], {}
    result["ratio_of"] = ["seconds of the clock", "seconds of the process"][clock]
    result["samples_per_second"] = {
        name: round(arguments.batch / statistics.median(both[0] for both in values), 1)
        for name, values in timed.items()
    }
    for name in peers:
        there = [both[clock] for both in timed[name]]
        result[f"speedup over {name}"] = {
            "medians": round(statistics.median(there) / statistics.median(here), 2),
            "minima": round(min(there) / min(here), 2),
        }
    result["first_step_seconds"] = round(times["here"][0][0], 1)
    result["seconds"] = {name: [[round(value, 4) for value in both] for both in timed[name]] for name in timed}
    return result


def train(
    arguments: argparse.Namespace,
    settings: dict[str, object],
    data: Dataset,
    on_step: Callable[[int, int, dict[str, float]], None],
    constraint: str = "none",
) -> None:
    recipe = Recipe.model_validate(
        {
            "data": {"augment": "crop-flip"},
            "threat": {"epsilon": 8 / 255},
            "train": {"batch_size": arguments.batch, "inner_steps": arguments.inner_steps, **settings},
            "constrain": {"constraint": constraint, "interval": 4, "stages": ["train"]},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        device = torch.device(arguments.device)
        phase = Phase("train", 1, 0.01, "constant", early_stop=False)
        Training(network(arguments), data, recipe, phase, device, Path(folder) / "c.pt").run(Sparsifier(), on_step)


def reference(arguments: argparse.Namespace, *, hoisted: bool = False) -> Reference:
    model = network(arguments).to(arguments.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator(arguments.device).manual_seed(0)
    return Reference(model, optimizer, 8 / 255, 6.0, arguments.inner_steps, 0.25, generator, hoisted)


def network(arguments: argparse.Namespace) -> models.Classifier:
    channels, side = arguments.channels, arguments.side
    return models.build(
        arguments.arch, classes=10, input_shape=(channels, side, side), mean=(0.5,) * channels, std=(0.25,) * channels,
        width=arguments.width,
    )  # fmt: skip


def dataset(arguments: argparse.Namespace) -> Dataset:
    """Random images, as many as one epoch of the timed steps takes."""
    generator = torch.Generator().manual_seed(0)
    count = arguments.batch * (arguments.warmup + arguments.rounds)
    shape = (count, arguments.channels, arguments.side, arguments.side)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    train = Split(images, torch.randint(10, (count,), generator=generator)).to(arguments.device)
    return Dataset("random", tuple("0123456789"), train, Split(train.images[:0], train.labels[:0]), train)


def clocks(arguments: argparse.Namespace) -> tuple[float, float]:
    if arguments.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def since(began: tuple[float, float], arguments: argparse.Namespace) -> tuple[float, float]:
    now = clocks(arguments)
    return now[0] - began[0], now[1] - began[1]


def alone(task: Callable[..., int], *arguments: object) -> int:
    """Runs a task in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


def peak_memory(arguments: argparse.Namespace, name: str, settings: dict[str, object] | None) -> int:
    """Bytes that a few steps take at most: of the GPU, or of the process beyond what it had before."""
    arguments.rounds, arguments.warmup = 3, 0
    data = dataset(arguments)
    before = forget_peak()
    if settings is None:
        peer = reference(arguments, hoisted=name.endswith("hoisted"))
        for index in torch.arange(len(data.train)).split(arguments.batch):
            peer.step(*data.train.batch(index))
    else:
        train(arguments, settings, data, lambda *_: None)
    return torch.cuda.max_memory_allocated() if arguments.device != "cpu" else resident() - before


def forget_peak() -> int:
    """Bytes that this process holds now, which counts as the most it ever held from here on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident()


def resident() -> int:
    """Most bytes that this process held since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def shares(arguments: argparse.Namespace) -> dict[str, float]:
    """Shares of our loop's seconds, with the constraint on; on a GPU, whose work goes on meanwhile, none."""
    if arguments.device != "cpu":
        return {}
    data, profile = dataset(arguments), cProfile.Profile()

    def on_step(done: int, steps: int, _figures: dict[str, float]) -> None:
        if done == 1:
            profile.enable()
        if done == steps:
            profile.disable()

    train(arguments, {"precision": "fp32", "ema": 0.99}, data, on_step, constraint="tscnc")
    stats = pstats.Stats(profile)

    def seconds(*functions: str, within: str = "") -> float:
        """Of functions, each named "file:function", with all that they call; `within` another function alone."""
        total = 0.0
        for place, (_, _, _, cumulative, callers) in stats.stats.items():
            if named(place) in functions:
                calls = [row[3] for caller, row in callers.items() if named(caller) == within]
                total += sum(calls) if within else cumulative
        return total

    attack, backward = ("trades.py:perturb", "folded.py:refreshed"), "_tensor.py:backward"
    constraint = "loop.py:_add_constraint"
    parts = {
        "data and augmentation": seconds("splits.py:batch", "augmentation.py:augment"),
        "inner attack": seconds(*attack),
        "constraint": seconds(constraint),
        "training step": seconds("trades.py:trades_loss", backward)
        - seconds(*attack)
        - seconds(backward, within=constraint),
        "weight average": seconds("swa_utils.py:update_parameters", "optim.py:update_parameters"),
    }
    parts["rest: optimiser, masks, bookkeeping"] = stats.total_tt - sum(parts.values())
    for part, share in parts.items():
        print(f"{part:36} {share / stats.total_tt:6.1%} of the time")
    return {part: round(share / stats.total_tt, 4) for part, share in parts.items()}


def named(place: tuple[str, int, str]) -> str:
    return f"{Path(place[0]).name}:{place[2]}"


def show(name: str, row: dict[str, object]) -> None:
    rates = ", ".join(f"{loop} {rate}" for loop, rate in row["samples_per_second"].items())
    print(f"{name}: samples per second: {rates}; first step {row['first_step_seconds']} s")
    for peer in ("published", "published, hoisted"):
        ratio = row[f"speedup over {peer}"]
        print(f"    over {peer}: {ratio['medians']:.2f}x (medians), {ratio['minima']:.2f}x (minima)", flush=True)
