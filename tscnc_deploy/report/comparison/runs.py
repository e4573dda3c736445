"""One run, reduced to the data for comparisons."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tscnc_deploy.bundle import open_bundle
from tscnc_deploy.errors import BundleError
from tscnc_deploy.record import Accuracy, BuildRecord


@dataclass(frozen=True)
class Result:
    """The results of a run.

    Attributes:
        folder: Its folder.
        name: Name of its recipe.
        seed: Its seed.
        settings: All other settings of its recipe, such as "prune.sparsity".
        engine: The weakest attacked engine; the accuracies are of this engine.
        clean: Accuracy on clean test images.
        robust: Accuracy under all attacks together, the worst case per image.
        dense_robust: Robust accuracy of the network before pruning, under the attacks on PyTorch models.
        attacks: Attacks on the engine, with their settings except seeds.
        sparsity: Share of zeros, counted in the file.
        median_kappa: Median condition number of the layers at the end.
        kappas: Median condition number of the layers after each epoch, with the stage.
        multiply_add_sparsity: Share of MACs that the zeros save.
        bytes: Size of the model's smallest format.
        milliseconds: Median latency of the fastest engine, one image on one thread of the build machine.
        seconds: Duration of each stage, including copied stages; empty for a bundle outside its run.
        environment: Versions and hardware.
    """

    folder: Path
    name: str
    seed: int
    settings: Mapping[str, Any]
    engine: str
    clean: Accuracy
    robust: Accuracy
    dense_robust: Accuracy | None
    attacks: Mapping[str, Mapping[str, Any]]
    sparsity: float
    median_kappa: float | None
    kappas: tuple[tuple[str, float | None], ...]
    multiply_add_sparsity: float | None
    bytes: int | None
    milliseconds: float | None
    seconds: Mapping[str, float]
    environment: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The figures, without the settings, which the comparison contains once."""
        return {
            "seed": self.seed,
            "engine": self.engine,
            "clean": self.clean.model_dump(),
            "robust": self.robust.model_dump(),
            "dense_robust": self.dense_robust and self.dense_robust.model_dump(),
            "sparsity": self.sparsity,
            "median_kappa": self.median_kappa,
            "median_kappa_by_epoch": [kappa for _, kappa in self.kappas],
            "multiply_add_sparsity": self.multiply_add_sparsity,
            "bytes": self.bytes,
            "milliseconds": self.milliseconds,
            "seconds": dict(self.seconds),
        }


def read_run(folder: Path) -> Result:
    """Reads a run's folder, or a bundle.

    Raises:
        BundleError: There is no valid bundle, or no engine in it was attacked.
    """
    inside = folder / "bundle"
    at = inside if (inside / "manifest.json").exists() else folder
    data = open_bundle(at).record
    weakest = data.evaluations.weakest
    clean = weakest and weakest[1].clean
    if weakest is None or clean is None:
        msg = f"{folder}: no engine in this bundle was attacked, so there is nothing to compare"
        raise BundleError(msg)
    engine, evaluation, robust = weakest
    settings = dict(_flat(data.recipe))
    sizes = [size.bytes for size in data.sizes if size.bytes]
    dense = data.evaluations.dense
    return Result(
        folder=folder,
        name=data.name,
        seed=int(settings.pop("seed", 0)),
        settings={key: value for key, value in settings.items() if key not in ("name", "description")},
        engine=engine,
        clean=clean,
        robust=robust,
        dense_robust=dense.robust if dense else None,
        attacks={
            attack: {key: value for key, value in settings.items() if key != "seed"}
            for attack, settings in evaluation.settings.items()
        },
        sparsity=data.model.sparsity,
        median_kappa=data.median_kappa,
        kappas=tuple((epoch.stage, _middle(epoch.kappa)) for epoch in data.history),
        multiply_add_sparsity=data.model.multiply_add_sparsity,
        bytes=min(sizes, default=None),
        milliseconds=_fastest(data),
        seconds=_seconds(folder / "stages"),
        environment=data.environment,
    )


def _fastest(data: BuildRecord) -> float | None:
    times = data.latency.engines if data.latency else {}
    calls = [call.median_ms for name, call in times.items() if name in data.evaluations.engines and call.median_ms]
    return min(calls, default=None)


def _middle(kappas: Mapping[str, float | None]) -> float | None:
    known = [kappa for kappa in kappas.values() if kappa is not None]
    return median(known) if known else None


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _seconds(stages: Path) -> dict[str, float]:
    found = {}
    for record in sorted(stages.glob("*.json")):
        try:
            found[record.stem] = float(json.loads(record.read_text(encoding="utf-8"))["seconds"])
        except (ValueError, KeyError, TypeError):
            continue  # an interrupted build; missing values are not shown
    return found
