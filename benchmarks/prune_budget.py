"""Compares the budgets of pruning: accuracy under PGD, zeros, multiply-adds, and the latency of the engine sparse-cpu.

    python benchmarks/prune_budget.py --out DIR [--budgets parameters macs latency] [--seeds 0 1 2] [--sparsity 0.95]
                                      [--set KEY=VALUE ...] [--name NAME]

For each seed one dense network is trained; every budget then prunes and fine-tunes it in a run of its own, which goes
on from that network by model.checkpoint and train.epochs = 0. Test images are attacked with PGD-20 through the pruned
network. The exported engines and one dense onnxruntime are called in turns, with one thread; each engine has a turn of
several calls, of which the first is not counted, because it finds the caches full of another engine's weights. Runs
are kept in DIR: the same command again repeats only what is missing, and the times. Writes what it prints to
benchmarks/results/prune_budget-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from tscnc_deploy import data, models
from tscnc_deploy.cli.common import machine
from tscnc_deploy.cli.common.progress import build_progress
from tscnc_deploy.engines import export_engine, load_target
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.structure import recount
from tscnc_deploy.engines.sparse_cpu.engine import SparseCpuEngine
from tscnc_deploy.pipeline.run import Run
from tscnc_deploy.pipeline.stages.finetune import Finetune
from tscnc_deploy.pipeline.stages.prune import Prune
from tscnc_deploy.pipeline.stages.train import Train
from tscnc_deploy.recipe.file import load_recipe
from tscnc_deploy.robustness import ModelVictim, Threat, evaluate, parse_attacks

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 64)
TURN_CALLS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budgets", nargs="+", default=["parameters", "macs", "latency"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sparsity", type=float, default=0.95)
    parser.add_argument("--set", nargs="+", default=["model.width=0.25"], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--attack", default="pgd-20")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--name", default=None, help="of the result, by default the processor's")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    processor = machine.system()["cpu"]
    result = {
        "machine": {"cpu": processor["model"], "cores": processor["usable_cores"], "threads": 1},
        "recipe": {"name": "digits", "sparsity": arguments.sparsity, "set": arguments.overrides},
        "attack": arguments.attack,
        "rounds": arguments.rounds,
        "rows": [],
    }
    name = arguments.name or processor["model"].lower().replace(" ", "-")
    for seed in arguments.seeds:
        folders = {}
        dense = arguments.out / f"dense-{seed}" / "stages" / "train" / "model.safetensors"
        run_stages(arguments, seed, dense.parents[2], [Train()], [])
        rows = [{"seed": seed, "budget": "dense network", "zeros": 0.0, **attacked(arguments, seed, dense)}]
        for budget in arguments.budgets:
            folder = arguments.out / f"{budget}-{seed}"
            begin = [f"model.checkpoint={dense}", "train.epochs=0", f"prune.budget={budget}"]
            run_stages(arguments, seed, folder, [Train(), Prune(), Finetune()], begin)
            twin = folder / "stages" / "finetune" / "model.safetensors"
            folders[budget] = export(twin, folder / "engine")
            rows.append({"seed": seed, "budget": budget, **counted(folders[budget]), **attacked(arguments, seed, twin)})
            print(json.dumps(rows[-1]), flush=True)
        result["rows"] += [row | {"latency": times} for row, times in zip(rows, timed(folders, arguments), strict=True)]
        result["machine"]["load"] = os.getloadavg()[0]
        (RESULTS / f"prune_budget-{name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for row in result["rows"]:
        print(json.dumps(row))


def recipe_for(arguments: argparse.Namespace, seed: int, more: list[str]):
    return load_recipe("digits", [*arguments.overrides, *more], sparsity=arguments.sparsity, seed=seed)


def run_stages(arguments: argparse.Namespace, seed: int, folder: Path, stages: list, more: list[str]) -> None:
    run = Run(folder, stages, device="cpu", device_class="cpu")
    run.prepare(0)
    with build_progress() as progress:
        run.build(recipe_for(arguments, seed, more), progress)


def attacked(arguments: argparse.Namespace, seed: int, file: Path) -> dict:
    """Clean and robust accuracy of a network on the test images."""
    recipe = recipe_for(arguments, seed, [])
    images, labels = data.load(recipe.data).test.batch(torch.arange(len(data.load(recipe.data).test)))
    threat = Threat(norm=recipe.threat.norm, epsilon=recipe.threat.epsilon)
    victim = ModelVictim(models.load_model(file).eval())
    found = evaluate(victim, images, labels, threat, parse_attacks([arguments.attack]), seed=seed).record.to_json()
    return {"clean": found["clean"], "robust": found["robust"]}


def export(file: Path, folder: Path) -> Path:
    model = models.load_model(file)
    export_engine(model, load_target("sparse-cpu"), folder, input_shape=model.config.input_shape)
    return folder


def counted(folder: Path) -> dict:
    structure = recount(folder / "model.onnx")
    return {
        "zeros": structure.sparsity,
        "multiply_add_sparsity": structure.multiply_add_sparsity,
        "kept_by_layer": {layer.name: round(1 - layer.sparsity, 4) for layer in structure.layers},
    }


def timed(folders: dict[str, Path], arguments: argparse.Namespace) -> list[dict]:
    """Milliseconds an image of dense onnxruntime and of each budget's engine, by batch."""
    first = next(iter(folders.values()))
    engines = [OnnxRuntimeEngine(first / "model.dense.onnx", threads=1)]
    engines += [SparseCpuEngine(folder / "model.onnx", threads=1) for folder in folders.values()]
    found: list[dict] = [{} for _ in engines]
    for batch in BATCHES:
        images = np.random.default_rng(1).random((batch, *engines[0].spec.input_shape), np.float32)
        times: list[list[float]] = [[] for _ in engines]
        for turn in range(arguments.rounds):
            for place in (*range(turn % len(engines), len(engines)), *range(turn % len(engines))):
                engines[place].logits(images)
                for _ in range(TURN_CALLS):
                    start = time.perf_counter()
                    engines[place].logits(images)
                    times[place].append((time.perf_counter() - start) / batch * 1e3)
        medians, least = [statistics.median(values) for values in times], [min(values) for values in times]
        for place in range(len(engines)):
            found[place][f"batch {batch}"] = {
                "ms": round(medians[place], 5),
                "min_ms": round(least[place], 5),
                "times_dense": round(medians[0] / medians[place], 2),
                "min_times_dense": round(least[0] / least[place], 2),
            }
    return found


if __name__ == "__main__":
    main()
