"""The contract between a stage and what runs it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tscnc_deploy.recipe import Recipe


class Progress(Protocol):
    """Receives what happens during a build; the command line shows it as bars or plain lines."""

    def start(self, stage: str, position: int, stages: int) -> None:
        """A stage begins; `position` counts from 1."""

    def step(self, done: int, total: int, figures: Mapping[str, float], label: str = "") -> None:
        """Steps done within the stage (or within its part `label`), with figures such as loss or robust accuracy."""

    def finish(self, stage: str, *, cached: bool, seconds: float) -> None:
        """A stage ended, or was found done."""


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
    """

    recipe: Recipe
    device: str
    inputs: Mapping[str, Path]
    out: Path
    work: Path
    progress: Progress


class Stage(ABC):
    """One step of a build: reads declared inputs, calls the packages below, writes outputs.

    Attributes:
        name: Name of the stage and of its folder.
        reads: The files it reads of each earlier stage; a folder stands for all files in it.
        code: Modules and packages under `tscnc_deploy` whose source determines the output.
        libraries: Distributions whose version determines the output.
    """

    name: ClassVar[str]
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    code: ClassVar[tuple[str, ...]] = ()
    libraries: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def settings(self, recipe: Recipe) -> dict[str, Any]:
        """The part of the recipe (and digests of outside inputs) that determines the output; must be JSON."""

    @abstractmethod
    def run(self, context: Context) -> None:
        """Writes the outputs to `context.out`."""


def write_json(path: Path, value: Any) -> None:
    """JSON in insertion order without NaN, so that equal content has equal bytes and attacks keep their order."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
