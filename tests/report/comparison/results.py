"""Made-up results of runs, for comparisons of any shape."""

from pathlib import Path

from tscnc_deploy.report.comparison import Result
from tscnc_deploy.robustness import accuracy


def share(correct):
    return accuracy(correct, 360)


def result(name, seed, *, robust=300, clean=350, constraint="tscnc", sparsity=0.95, size=400_000, milliseconds=None):
    return Result(
        folder=Path(f"runs/{name}-{seed}"),
        name=name,
        seed=seed,
        settings={"constrain.constraint": constraint, "prune.sparsity": sparsity},
        engine="onnx-cpu",
        clean=share(clean),
        robust=share(robust),
        dense_robust=share(min(robust + 5, 360)),
        attacks={"pgd-20": {"steps": 20}},
        sparsity=sparsity,
        median_kappa=5.0 + seed,
        kappas=(("train", 9.0), ("prune", 7.0), ("finetune", 5.0 + seed)),
        multiply_add_sparsity=0.7,
        bytes=size,
        milliseconds=milliseconds,
        seconds={"train": 60.0, "prune": 30.0, "finetune": 90.0},
        environment={"torch": "2.11"},
    )
