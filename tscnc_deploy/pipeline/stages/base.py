"""The contract between a stage and what runs it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tscnc_deploy.data.source import digest
from tscnc_deploy.files import write_atomic
from tscnc_deploy.recipe import Data, Recipe

if TYPE_CHECKING:
    from torch import Tensor


# Names of the figures between which robust accuracy lies, by the images evaluated so far.
BOUNDS = ("robust at least", "at most")


class Progress(Protocol):
    """Receives what happens during a build; the command line shows it as bars or plain lines."""

    def start(self, stage: str, position: int, stages: int) -> None:
        """A stage begins; `position` counts from 1."""

    def step(self, done: int, total: int, figures: Mapping[str, float], label: str = "", detail: str = "") -> None:
        """Steps done within the stage (or within its part `label`), with figures such as loss or robust accuracy.

        The detail says what goes on at this moment, such as the name of an attack.
        """

    def finish(self, stage: str, *, cached: bool, seconds: float) -> None:
        """A stage ended, or was found done."""


@dataclass(frozen=True)
class Times:
    """When a stage was run.

    Attributes:
        started: ISO 8601 in UTC; None where an older version did not write it down.
        seconds: How long it took, since the last interruption.
        threads: CPU threads that computed it; None where that was not written down.
    """

    started: str | None
    seconds: float
    threads: int | None = None


@dataclass(frozen=True)
class Context:
    """What a stage gets.

    Attributes:
        recipe: The whole recipe; a stage reads only what its `settings` name.
        device: "cpu" or "cuda", resolved.
        inputs: Folder of each earlier stage's outputs.
        out: Empty folder for the outputs; it takes its final place only when `run` returns.
        work: Folder that survives a kill, for checkpoints of this very fingerprint.
        progress: Where to report.
        cache: Folder of the run that outlives its stages, for what saves time and changes no output.
        earlier: When each earlier stage was run; changes no output that anything is measured on.
    """

    recipe: Recipe
    device: str
    inputs: Mapping[str, Path]
    out: Path
    work: Path
    progress: Progress
    cache: Path
    earlier: Mapping[str, Times] = field(default_factory=dict)


class Stage(ABC):
    """One step of a build: reads declared inputs, calls the packages below, writes outputs.

    A stage is repeated when the source of anything that its module imports changes, see `pipeline.closure`: import only
    what the output depends on.

    Attributes:
        name: Name of the stage and of its folder.
        reads: The files it reads of each earlier stage; a folder stands for all files in it.
    """

    name: ClassVar[str]
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def settings(self, recipe: Recipe) -> dict[str, Any]:
        """The part of the recipe (and digests of outside inputs) that determines the output; must be JSON."""

    @abstractmethod
    def run(self, context: Context) -> None:
        """Writes the outputs to `context.out`."""


def utc_now() -> str:
    """The time as provenance has it: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_json(path: Path, value: Any) -> None:
    """JSON in insertion order without NaN, so that equal content has equal bytes and attacks keep their order.

    Raises:
        StorageError: It cannot be written.
    """
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, by an ordinary write: its own writer reports a full disk as no OSError."""
    import safetensors.torch

    path.write_bytes(safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def training_data(recipe: Recipe) -> dict[str, Any]:
    """What determines training and validation images."""
    return recipe.data.model_dump(exclude={"root", "download", "test_limit"}) | {"digest": _digest(recipe.data)}


def test_data(recipe: Recipe) -> dict[str, Any]:
    """What determines test images."""
    chosen = recipe.data.model_dump(exclude={"root", "download", "augment", "train_limit", "validation"})
    return chosen | {"digest": _digest(recipe.data)}


@cache
def _digest(settings: Data) -> str:
    # Every stage asks for it, and large data sets take seconds to read.
    return digest(settings)
