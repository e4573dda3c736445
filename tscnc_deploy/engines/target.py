"""A target: which engine leaves a build, in what precision, and how closely it must agree with its twin."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tscnc_deploy.errors import RecipeError, StorageError
from tscnc_deploy.recipe import Section
from tscnc_deploy.recipe.problems import Setting, explain
from tscnc_deploy.recipe.values import Count, Positive, RecipeName, Text
from tscnc_deploy.resources import folder
from tscnc_deploy.suggest import any_of, did_you_mean, not_among

# No target is larger; the rest of a hostile file is not read.
_MAX_JSON = 65536


class Target(Section):
    """One file of `export/`; `name` is the file's name without its suffix."""

    name: RecipeName = Field(description="names the engine in a bundle")
    description: Text = Field("", description="one line for `tscnc-deploy targets`")
    engine: Literal["onnxruntime", "sparse-cpu"] = Field("onnxruntime", description="what runs the exported file")
    provider: Literal["CPUExecutionProvider", "CUDAExecutionProvider"] = Field(
        "CPUExecutionProvider", description="onnxruntime's execution provider"
    )
    instructions: Literal["auto", "avx512", "avx2", "neon", "portable"] = Field(
        "auto", description="the sparse-cpu engine's instruction set; auto: the best that the processor has"
    )
    precision: Literal["fp32"] = Field("fp32", description="precision of the arithmetic, read back from the file")
    sparse: bool = Field(True, description="the engine opens the sparse file; false: the dense one")
    batch_min: Count = Field(1, description="shorter batches are padded to this many images")
    batch_example: Annotated[Count, Field(ge=2)] = Field(2, description="images that the network is traced with")
    batch_max: Count = Field(256, description="longer batches are split into calls of at most this many images")
    tolerance: Positive = Field(1e-3, description="largest absolute difference of a logit from the twin's")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.name in ("", "twin"):
            msg = f'a target cannot be called "{self.name}", which is the PyTorch model; rename the file'
            raise ValueError(msg)
        if self.batch_min > self.batch_max:
            msg = f"batch_min = {self.batch_min} exceeds batch_max = {self.batch_max}; write a batch_max as large"
            raise ValueError(msg)
        if self.engine == "sparse-cpu" and self.provider != "CPUExecutionProvider":
            msg = f'provider = "{self.provider}" belongs to engine = "onnxruntime"; leave it out for the CPU'
            raise ValueError(msg)
        if self.engine != "sparse-cpu" and self.instructions != "auto":
            msg = f'instructions = "{self.instructions}" belongs to engine = "sparse-cpu"; leave it out'
            raise ValueError(msg)
        return self


def load_target(name_or_path: str | Path) -> Target:
    """Reads a shipped target by its name, or the user's own TOML file.

    Args:
        name_or_path: "onnx-cpu", or a path: it ends in ".toml" or has a folder in it.

    Raises:
        RecipeError: There is no such target or file, it is not TOML, or it has unknown keys or impossible values; the
            message lists every one of them on a line of its own.
    """
    path = Path(name_or_path)
    name = str(name_or_path)
    if path.suffix == ".toml" or path.name != name:
        return _read(path)
    shipped = {path.stem: path for path in _shipped()}
    if name not in shipped:
        msg = f"target {name} {not_among(name, [*shipped, 'the path of a .toml file'])}"
        raise RecipeError(msg)
    return _read(shipped[name])


def list_targets() -> list[Target]:
    """The shipped targets, sorted by name."""
    return [_read(path) for path in _shipped()]


def write_target(target: Target, path: Path) -> None:
    """Writes a target as JSON beside the engine it led to.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        path.write_text(target.model_dump_json(indent=2) + "\n", "utf-8")
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise StorageError(msg) from error


def read_target(path: Path) -> Target:
    """Reads what `write_target` wrote.

    Raises:
        RecipeError: The file is missing, no JSON, or no target.
    """
    try:
        with path.open("rb") as file:
            return Target.model_validate_json(file.read(_MAX_JSON))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise RecipeError(msg) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        msg = f"{path}: is not the target of an exported engine: {key and f'{key}: '}{first['msg']}"
        raise RecipeError(msg) from error


def _shipped() -> list[Path]:
    return sorted(folder("export").glob("*.toml"))


def _read(path: Path) -> Target:
    try:
        # Editors of some systems begin a UTF-8 file with a byte-order mark, which TOML does not know.
        table = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise RecipeError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path}: is not TOML: {error}"
        raise RecipeError(msg) from error
    known = [key for key in Target.model_fields if key != "name"]
    problems = [
        f"{path}: {key} is not a key of a target{did_you_mean(key, known) or f'; write {any_of(known)}'}"
        for key in table
        if key not in known
    ]
    settings = {key: Setting(table[key], f"{path}:", key) for key in known if key in table}
    settings["name"] = Setting(path.stem, f"{path}: the file's name")
    try:
        target = Target.model_validate({key: setting.value for key, setting in settings.items()})
    except ValidationError as error:
        problems += explain(error, settings, str(path))
    if problems:
        raise RecipeError("\n".join(problems)) from None
    return target
