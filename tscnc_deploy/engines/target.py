"""A target: which engine leaves a build, in what precision, and how closely it must agree with its twin."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, ValidationError, model_validator

from tscnc_deploy.errors import RecipeError
from tscnc_deploy.files import Read, read_file, write_atomic
from tscnc_deploy.names import EngineKind
from tscnc_deploy.recipe.problems import Setting, explain
from tscnc_deploy.recipe.section import Section
from tscnc_deploy.recipe.values import Capabilities, Count, Epochs, OptionalCount, RecipeName, Text
from tscnc_deploy.resources import folder
from tscnc_deploy.text import any_of, did_you_mean, escaped, not_among

# Which engines know a key that the others have no use for.
_ONLY_FOR = {
    "provider": ("onnxruntime",),
    "instructions": ("sparse-cpu",),
    "capabilities": ("tensorrt-rtx",),
    "hardware": ("tensorrt",),
    "batch_opt": ("tensorrt", "tensorrt-rtx"),
    "portable": ("tensorrt", "tensorrt-rtx"),
}
# No target is larger.
_MAX_JSON = 65536


class Target(Section):
    """One file of `export/`; `name` is the file's name without its suffix."""

    name: RecipeName = Field(description="names the engine in a bundle")
    description: Text = Field("", description="one line for `tscnc-deploy targets`")
    engine: EngineKind = Field("onnxruntime", description="what runs the exported file")
    provider: Literal["CPUExecutionProvider", "CUDAExecutionProvider"] = Field(
        "CPUExecutionProvider", description="onnxruntime's execution provider; others have none"
    )
    instructions: Literal["auto", "avx512", "avx2", "neon", "portable"] = Field(
        "auto", description="the sparse-cpu engine's instruction set; auto: the best that the processor has"
    )
    capabilities: Capabilities = Field(
        (), description="GPUs that tensorrt-rtx builds for, such as SM89; empty: this machine's; tensorrt: always empty"
    )
    hardware: Literal["this-gpu", "same-capability", "ampere-and-newer"] = Field(
        "this-gpu", description="where an engine of tensorrt may run; tensorrt-rtx: see capabilities"
    )
    precision: Literal["fp32", "fp16", "int8"] = Field(
        "fp32", description="precision of the arithmetic, read back from the file; the ends may stay in fp32"
    )
    sparse: bool = Field(
        True, description="the sparse file is opened (false: the dense one); TensorRT may use 2:4 tensor cores"
    )
    complete: Literal["none", "2:4"] = Field(
        "none", description="2:4 drops weights until at most 2 of 4 input channels are left, for sparse tensor cores"
    )
    complete_channels: Count = Field(
        256, description="layers with fewer input or output channels are not completed: they would gain nothing"
    )
    complete_epochs: Epochs = Field(0, description="epochs of fine-tuning after the completion")
    regrow: bool = Field(False, description="completion keeps the number of weights; needs complete_epochs")
    batch_min: Count = Field(1, description="shorter batches are padded to this many images")
    batch_example: Annotated[Count, Field(ge=2)] = Field(2, description="images that the network is traced with")
    batch_opt: OptionalCount = Field(
        None, description="images that TensorRT chooses its kernels for; none: 32, or the bound next to it"
    )
    batch_max: Count = Field(256, description="longer batches are split into calls of at most this many images")
    calibration_images: Count = Field(256, description="training images that int8 takes the range of its values from")
    cuda_graphs: bool = Field(True, description="TensorRT replays a recorded graph for batch sizes that come back")
    portable: bool = Field(
        False, description="TensorRT rebuilds the engine from the ONNX file beside it where it does not open"
    )
    tolerance: PositiveFloat = Field(1e-3, description="largest absolute difference of a logit from the twin's")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.name in ("", "twin"):
            msg = f'a target cannot be called "{self.name}", which is the PyTorch model; rename the file'
            raise ValueError(msg)
        if self.batch_min > self.batch_max:
            msg = f"batch_min = {self.batch_min} exceeds batch_max = {self.batch_max}; write a batch_max as large"
            raise ValueError(msg)
        if not self.batch_min <= self.optimal_batch <= self.batch_max:
            bounds = f"batch_min = {self.batch_min} and batch_max = {self.batch_max}"
            msg = f"batch_opt = {self.batch_opt} is not between {bounds}"
            raise ValueError(msg)
        if self.precision == "fp16" and self.engine == "onnxruntime":
            msg = 'precision = "fp16" is for TensorRT: onnxruntime would round to float16 and compute in float32'
            raise ValueError(msg)
        if self.precision != "fp32" and self.engine == "sparse-cpu":
            msg = f'precision = "{self.precision}" is not for sparse-cpu, which computes in float32'
            raise ValueError(msg)
        if self.complete == "none" and (self.complete_epochs or self.regrow):
            msg = 'complete_epochs and regrow belong to a completion; write complete = "2:4", or remove them'
            raise ValueError(msg)
        if self.regrow and not self.complete_epochs:
            msg = "regrow = true needs complete_epochs of at least 1: regrown weights begin at zero"
            raise ValueError(msg)
        for key, allowed in _ONLY_FOR.items():
            if self.engine not in allowed and getattr(self, key) != type(self).model_fields[key].default:
                msg = f'{key} is a key of {any_of(allowed)}; engine = "{self.engine}" has none, remove it'
                raise ValueError(msg)
        return self

    @property
    def optimal_batch(self) -> int:
        """The number of images that TensorRT chooses its kernels for."""
        return self.batch_opt or min(max(32, self.batch_min), self.batch_max)


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
    write_atomic(path, target.model_dump_json(indent=2) + "\n")


def read_target(path: Path, read: Read = read_file) -> Target:
    """Reads what `write_target` wrote.

    Raises:
        InputError: The file is missing, too large, no JSON, or no target.
    """
    try:
        return Target.model_validate_json(read(path, _MAX_JSON))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # A stranger's key must not steer a terminal.
        key = escaped(".".join(str(part) for part in first["loc"]))
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
