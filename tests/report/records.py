"""A made-up record of a build, as large as a real one: ResNet-18 on the digits, three attacks, one engine."""

from __future__ import annotations

from typing import Any

from tscnc_deploy.record import BuildRecord
from tscnc_deploy.robustness import accuracy as measured_accuracy

TOTAL = 360

_WIDTHS = (64, 128, 256, 512)


def _shapes() -> dict[str, list[int]]:
    shapes = {"conv1.weight": [64, 1, 3, 3]}
    before = 64
    for stage, width in enumerate(_WIDTHS, 1):
        for block in range(2):
            shapes[f"layer{stage}.{block}.conv1.weight"] = [width, before, 3, 3]
            shapes[f"layer{stage}.{block}.conv2.weight"] = [width, width, 3, 3]
            if before != width:
                shapes[f"layer{stage}.{block}.downsample.0.weight"] = [width, before, 1, 1]
            before = width
    return shapes | {"fc.weight": [10, 512]}


def accuracy(correct: int, low: float, high: float) -> dict[str, Any]:
    return {"correct": correct, "total": TOTAL, "accuracy": correct / TOTAL, "low": low, "high": high}


def _evaluation(clean: dict[str, Any], robust: dict[str, Any], attacks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    settings = {
        "pgd-20": {"steps": 20, "restarts": 1, "step_size": 0.0125, "loss": "cross-entropy", "seed": 0},
        "apgd-ce-50": {"steps": 50, "restarts": 1, "loss": "cross-entropy", "seed": 0},
        "square-1000": {"queries": 1000, "loss": "margin", "p_init": 0.8, "seed": 0},
        "replay": {"examples": TOTAL, "seed": 0},
    }
    return {
        "clean": clean,
        "robust": robust,
        "attacks": attacks,
        "settings": {name: settings[name] for name in attacks},
        "cascade": False,
        "epsilon": 0.1,
        "norm": "Linf",
        "queries": {"clean": TOTAL, **dict.fromkeys(attacks, 20 * TOTAL)},
        "warnings": [],
        "measures": None,
    }


def _layers() -> list[dict[str, Any]]:
    layers = []
    for position, (name, shape) in enumerate(_shapes().items()):
        parameters, columns = 1, 1
        for side in shape:
            parameters *= side
        columns = parameters // shape[0]
        keep = 0.42 / (1 + position) + 0.02
        full_rank = min(shape[0], columns)
        layers.append(
            {
                "name": name,
                "shape": shape,
                "parameters": parameters,
                "nonzero": round(keep * parameters),
                "sparsity": 1 - round(keep * parameters) / parameters,
                "multiply_adds": 16 * parameters,
                "multiply_adds_left": 16 * round(keep * parameters),
                "kappa": 4.5 * 1.35**position if position != 6 else None,
                "rank": full_rank - position // 3,
                "full_rank": full_rank,
                "dead_filters": position // 6,
                "filters": shape[0],
                "spectral_norm": 2.5 + 0.11 * position,
            }
        )
    return layers


def _history() -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    for stage, epochs, lr in (("train", 30, 0.05), ("prune", 10, 0.01), ("finetune", 15, 0.01)):
        for epoch in range(1, epochs + 1):
            done = len(history) / 55
            sparsity = {"train": 0.0, "prune": 0.95 * (1 - (1 - epoch / 10) ** 3), "finetune": 0.95}[stage]
            dip = 0.06 if stage == "prune" and epoch > 6 else 0.0
            history.append(
                {
                    "stage": stage,
                    "epoch": epoch,
                    "loss": 2.3 * (1 - done) ** 2 + 0.4,
                    "clean": 0.99 - 0.8 * (1 - done) ** 8 - dip,
                    "robust": 0.85 - 0.8 * (1 - done) ** 4 - 1.5 * dip,
                    "sparsity": sparsity,
                    "lr": lr,
                    "lambda": None if stage == "train" else 1e-3,
                    "seconds": 3.2,
                    "kappa": {
                        name: (3 + position) * (1 + 40 * done if stage == "train" else 34 / (0.4 + done))
                        for position, name in enumerate(_shapes())
                    },
                }
            )
    return history


def record() -> dict[str, Any]:
    """The record as JSON; a fresh copy for every caller to damage."""
    dense = _evaluation(
        accuracy(355, 0.967915, 0.995486),
        accuracy(306, 0.809161, 0.885141),
        {
            "pgd-20": accuracy(309, 0.818395, 0.892451),
            "apgd-ce-50": accuracy(307, 0.812235, 0.887582),
            "square-1000": accuracy(311, 0.824571, 0.897305),
        },
    )
    twin = _evaluation(
        accuracy(351, 0.953081, 0.988505),
        accuracy(298, 0.784680, 0.865504),
        {
            "pgd-20": accuracy(301, 0.793839, 0.872876),
            "apgd-ce-50": accuracy(299, 0.787731, 0.867965),
            "square-1000": accuracy(304, 0.803022, 0.880230),
        },
    )
    engine = _evaluation(
        accuracy(351, 0.953081, 0.988505),
        accuracy(297, 0.781631, 0.863040),
        {
            "replay": accuracy(299, 0.787731, 0.867965),
            "pgd-20": accuracy(300, 0.790784, 0.870422),
            "square-1000": accuracy(304, 0.803022, 0.880230),
        },
    ) | {
        "kind": "onnxruntime",
        "precision": "fp32",
        "provider": "CPUExecutionProvider",
        "unavailable": None,
        "bytes": 6_731_412,
        "flips": 1,
        "max_abs_diff": 3.3e-6,
        "parity": {
            "max_abs_diff": 3.3e-6,
            "flips_clean": [],
            "flips_adversarial": [217],
            "tolerance": 1e-3,
            "smallest_tolerance": 3.4e-6,
            "passed": True,
        },
        "comparison": {
            "lost": 1,
            "gained": 0,
            "total": TOTAL,
            "difference": 1 / TOTAL,
            "upper_bound": 0.0124,
            "mcnemar_p": 1.0,
        },
        "layers": [],
        "completion": [],
    }
    return {
        "schema": "tscnc-record/1",
        "name": "digits-resnet18-s95",
        "recipe": {
            "name": "digits",
            "seed": 0,
            "data": {"dataset": "digits", "validation": 0.1, "augment": "none"},
            "model": {"arch": "resnet18", "width": 1.0, "checkpoint": None},
            "threat": {"norm": "Linf", "epsilon": 0.1},
            "train": {"epochs": 30, "batch_size": 64, "optimizer": "adamw", "lr": 0.002, "beta": 6.0, "nesterov": True},
            "prune": {"sparsity": 0.95, "criterion": "adversarial-taylor", "pattern": "unstructured", "epochs": 10},
            "finetune": {"epochs": 15, "lr": 0.001},
            "verify": {"samples": 0, "attacks": ["pgd-20", "apgd-ce-50", "square-1000"]},
            "gates": {"clean": 0.95, "robust": 0.75, "engine_loss": 0.02},
        },
        "model": {
            "arch": "resnet18",
            "parameters": 11_172_810,
            "prunable": 11_163_200,
            "nonzero": 558_160,
            "sparsity": 0.95,
            "multiply_adds": 34_644_992,
            "multiply_adds_left": 10_614_440,
            "multiply_add_sparsity": 0.693622,
            "input_shape": [1, 8, 8],
            "classes": [str(digit) for digit in range(10)],
        },
        "threat": {"norm": "Linf", "epsilon": 0.1},
        "evaluations": {"dense": dense, "twin": twin, "engines": {"onnx-cpu": engine}},
        "pruning": {
            "lost": 14,
            "gained": 6,
            "total": TOTAL,
            "difference": 8 / TOTAL,
            "upper_bound": 0.0436,
            "mcnemar_p": 0.1153,
        },
        "gates": [
            {
                "name": "onnx-cpu: zeros counted in the file",
                "value": 10_605_040,
                "limit": 10_605_040,
                "passed": True,
                "inconclusive": False,
            },
            {
                "name": "twin: clean accuracy, lower end",
                "value": 0.953081,
                "limit": 0.95,
                "passed": True,
                "inconclusive": False,
            },
            {
                "name": "twin: robust accuracy, lower end",
                "value": 0.784680,
                "limit": 0.75,
                "passed": True,
                "inconclusive": False,
            },
            {
                "name": "onnx-cpu: robust accuracy, lower end",
                "value": 0.781631,
                "limit": 0.75,
                "passed": True,
                "inconclusive": False,
            },
            {
                "name": "onnx-cpu: robust accuracy lost to the twin, upper bound",
                "value": 0.0124,
                "limit": 0.02,
                "passed": True,
                "inconclusive": False,
            },
        ],
        "layers": _layers(),
        "history": _history(),
        "sizes": [
            {"name": "dense ONNX", "bytes": 44_712_301, "ratio": 1.0},
            {"name": "sparse ONNX", "bytes": 6_731_412, "ratio": 6.64},
            {"name": "compressed archive", "bytes": 2_910_054, "ratio": 15.36},
            {"name": "entropy bound", "bytes": 2_632_900, "ratio": 16.98},
        ],
        "environment": {
            "python": "3.11.7",
            "torch": "2.11.0",
            "onnx": "1.18.0",
            "onnxruntime": "1.22.0",
            "device": "cpu",
            "processor": "x86_64, 2 cores",
        },
        "seconds": {"train": 201.4, "prune": 71.2, "finetune": 96.0, "verify": 38.2, "export": 6.1, "reverify": 31.7},
        "latency": {
            "threads": 1,
            "batch": 1,
            "rounds": 30,
            "processor": "A processor",
            "engines": {
                "dense network in onnxruntime": {"median_ms": 1.5, "min_ms": 1.25, "provider": "CPUExecutionProvider"},
                "onnx-cpu": {"median_ms": 1.5, "min_ms": 1.375, "provider": "CPUExecutionProvider"},
                "sparse-cpu": {"median_ms": 0.5, "min_ms": 0.375, "provider": "avx512"},
            },
        },
        "passed": True,
    }


def measured_record() -> dict[str, Any]:
    """The record with everything beyond the threat model measured, on the twin and on an engine a little weaker."""
    full = record()
    evaluations = full["evaluations"]
    evaluations["dense"]["warnings"] = None
    evaluations["twin"]["measures"] = _measures(0)
    evaluations["engines"]["onnx-cpu"]["measures"] = _measures(9)
    evaluations["engines"]["onnx-cpu"]["warnings"] = [
        {
            "name": "gradient-free-stronger",
            "figure": 12 / 351,
            "limit": 0.02,
            "message": "on 12 of 351 correctly classified images a search without gradients succeeded where no "
            "gradient attack did",
        }
    ]
    return full


def _share(correct: int) -> dict[str, Any]:
    return measured_accuracy(correct, TOTAL).to_json()


def _measures(lost: int) -> dict[str, Any]:
    """What `robustness.measure` gives under each name, of a model that has `lost` images fewer right everywhere."""
    falls = {"gaussian_noise": 12, "shot_noise": 10, "impulse_noise": 16, "defocus_blur": 22, "contrast": 4, "fog": 8}
    right = {name: [351 - lost - fall * severity for severity in range(1, 6)] for name, fall in falls.items()}
    quantiles = [(0.05, 0.021, 0.0, 0.034), (0.25, 0.118, 0.11, 0.127), (0.5, 0.171, 0.16, 0.18)]
    quantiles += [(0.75, 0.244, 0.232, 0.26), (0.95, None, 0.39, None)]
    named = [dict(zip(("share", "value", "low", "high"), row, strict=True)) for row in quantiles]
    apgd = {"loss": "cross-entropy", "steps": 20, "restarts": 1, "seed": 0}
    return {
        "corruptions": {
            "clean": _share(351 - lost),
            "mean": {"accuracy": 0.875 - lost / TOTAL, "total": TOTAL, "low": 0.79, "high": 0.931},
            "corruptions": {
                name: [{"severity": severity, **_share(correct)} for severity, correct in enumerate(row, 1)]
                for name, row in right.items()
            },
            "seed": 0,
        },
        "curve": {
            "norm": "Linf",
            "clean": _share(351 - lost),
            "curve": [
                {"epsilon": epsilon, **_share(correct - lost)}
                for epsilon, correct in [(0.025, 345), (0.05, 332), (0.1, 299), (0.15, 221), (0.2, 128), (0.4, 9)]
            ],
            "settings": {"apgd-ce-20": apgd},
        },
        "smallest-epsilon": {
            "norm": "Linf",
            "largest": 0.4,
            "total": TOTAL,
            "misclassified": 9 + lost,
            "robust": _share(21 - lost),
            "quantiles": named,
            "settings": {"attack": "apgd-ce-20", **apgd, "halvings": 7},
        },
        "lipschitz": {
            "norm": "Linf",
            "epsilon": 0.1,
            "total": TOTAL,
            "mean": 61.4 + lost,
            "standard_error": 0.82,
            "largest": 118.2,
            "quantiles": [{**row, "value": 40 + 30 * row["share"], "low": 39.0, "high": 72.5} for row in named],
            "steps": 20,
            "restarts": 2,
            "seed": 0,
        },
        "smoothing": {
            "sigma": 0.12,
            "n0": 100,
            "n": 1000,
            "alpha": 0.001,
            "seed": 0,
            "norm": "L2",
            "base": _share(351 - lost),
            "abstained": 5,
            "largest_radius": 0.2957,
            "curve": [{"radius": 0.03 * place, **_share(348 - lost - 6 * place**2)} for place in range(7)],
        },
    }


def report_data() -> BuildRecord:
    return BuildRecord.from_json(record())
