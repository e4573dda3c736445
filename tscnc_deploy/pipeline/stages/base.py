"""The interface between stages and the code that runs them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.data.source import digest
from tscnc_deploy.files import write_atomic
from tscnc_deploy.names import LIBRARIES
from tscnc_deploy.progress import Progress
from tscnc_deploy.recipe import Data, Recipe
from tscnc_deploy.versions import installed_version

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.data import Dataset
    from tscnc_deploy.models import Classifier


@dataclass(frozen=True)
class Times:
    """When a stage was run.

    Attributes:
        started: ISO 8601 in UTC; None if an older version did not record it.
        seconds: Duration since the last interruption.
        threads: Number of CPU threads; None if not recorded.
    """

    started: str | None
    seconds: float
    threads: int | None = None


@dataclass(frozen=True)
class Context:
    """The inputs of a stage.

    Attributes:
        recipe: The whole recipe; a stage reads only the part returned by its `settings`.
        device: "cpu" or "cuda", resolved.
        inputs: Folder of each earlier stage's outputs.
        out: Empty folder for the outputs; it is moved to its final place only when `run` returns.
        work: Folder that is kept if the build is killed, for checkpoints of this fingerprint.
        progress: Receives the progress.
        cache: Folder of the run that is kept between stages, for data that saves time without changing outputs.
        earlier: When each earlier stage was run; does not affect any output that is measured.
    """

    recipe: Recipe
    device: str
    inputs: Mapping[str, Path]
    out: Path
    work: Path
    progress: Progress
    cache: Path
    earlier: Mapping[str, Times] = field(default_factory=dict)

    def network(self, stage: str) -> Classifier:
        """The network that an earlier stage wrote as model.safetensors, on the CPU in eval mode.

        Its code is the recipe's, which whoever builds has given.
        """
        from tscnc_deploy import models

        return models.load_model(
            self.inputs[stage] / "model.safetensors", arch=self.recipe.model.arch, seed=weight_seed(self.recipe)
        )


class Stage(ABC):
    """One step of a build: reads declared inputs, calls lower-level packages, writes outputs.

    A stage is rerun when the source of anything that its module imports changes, see `pipeline.closure`, so import only
    what the output depends on.

    Attributes:
        name: Name of the stage and of its folder.
        reads: The files it reads from each earlier stage; a folder means all files in it.
    """

    name: ClassVar[str]
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def settings(self, recipe: Recipe) -> dict[str, Any]:
        """The part of the recipe (and digests of external inputs) that determines the output; must be JSON."""

    @abstractmethod
    def run(self, context: Context) -> None:
        """Writes the outputs to `context.out`."""


def utc_now() -> str:
    """The current time in the format of the provenance: ISO 8601 in UTC, in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON in insertion order without NaN: equal content gives equal bytes, and attacks keep their order.

    Raises:
        StorageError: It cannot be written.
    """
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file with an ordinary write; the library's writer does not raise OSError on a full disk."""
    import safetensors.torch

    path.write_bytes(safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def new_network(recipe: Recipe, dataset: Dataset) -> Classifier:
    """The recipe's network with its initial weights, on the CPU in training mode.

    A network of a library that begins with trained weights takes images as those expect them: with the mean and the
    standard deviation that they were trained with, not those of the data.

    Raises:
        InputError: See `models.build` and `models.load_weights`.
        UnavailableError: timm is not installed.
    """
    from tscnc_deploy import models
    from tscnc_deploy.models.config import ModelConfig

    model, shape, classes = recipe.model, dataset.input_shape, len(dataset.classes)
    mean, std = dataset.channel_statistics()
    config = ModelConfig(model.arch, model.width, classes, shape, mean, std, model.args)
    if config.network.source in LIBRARIES and (model.pretrained or model.checkpoint is not None):
        from tscnc_deploy.models.libraries import preprocessing

        mean, std = preprocessing(config) or (mean, std)
    built = models.build(
        model.arch, classes=classes, input_shape=shape, mean=mean, std=std, width=model.width, args=model.args,
        pretrained=model.pretrained, seed=weight_seed(recipe),
    )  # fmt: skip
    if model.checkpoint is not None:
        models.load_weights(built, Path(model.checkpoint), model.checkpoint_key)
    return built


def weight_seed(recipe: Recipe) -> int:
    """The seed of the network's initial weights."""
    from tscnc_deploy.seeds import derive_seed

    return derive_seed(recipe.seed, "weights")


def network_code(recipe: Recipe) -> dict[str, Any] | None:
    """What identifies the code of a network that is not built in: see `own.code_digest`, or the library's version."""
    network = parse_arch(recipe.model.arch)
    if network.source == "builtin":
        return None
    if network.own:
        from tscnc_deploy.models.own import code_digest

        return code_digest(network)
    return {"distribution": network.source, "version": installed_version(network.source)}


def training_data(recipe: Recipe) -> dict[str, Any]:
    """The settings that determine training and validation images."""
    return recipe.data.model_dump(exclude={"root", "download", "test_limit"}) | {"digest": _digest(recipe.data)}


def test_data(recipe: Recipe) -> dict[str, Any]:
    """The settings that determine test images."""
    chosen = recipe.data.model_dump(exclude={"root", "download", "augment", "train_limit", "validation"})
    return chosen | {"digest": _digest(recipe.data)}


@cache
def _digest(settings: Data) -> str:
    # Every stage needs it, and large data sets take seconds to read.
    return digest(settings)
