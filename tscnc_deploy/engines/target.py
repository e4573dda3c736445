"""A target: which engine a build exports, in which precision, and how closely it must match its twin."""

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

# Keys that only some engines use.
_ONLY_FOR = {
    "provider": ("onnxruntime",),
    "instructions": ("sparse-cpu",),
    "capabilities": ("tensorrt-rtx",),
    "hardware": ("tensorrt",),
    "batch_opt": ("tensorrt", "tensorrt-rtx"),
    "portable": ("tensorrt", "tensorrt-rtx"),
}
# Every valid target is smaller.
_MAX_JSON = 65536


class Target(Section):
    """One file of `export/`; `name` is the file's name without its suffix."""

    name: RecipeName = Field(description="names the engine in a bundle")
    description: Text = Field("", description="one line for `tscnc-deploy targets`")
    engine: EngineKind = Field("onnxruntime", description="what runs the exported file")
    provider: Literal["CPUExecutionProvider", "CUDAExecutionProvider"] = Field(
        "CPUExecutionProvider", description="onnxruntime's execution provider; not for other engines"
    )
    instructions: Literal["auto", "avx512", "avx2", "neon", "portable"] = Field(
        "auto", description="the sparse-cpu engine's instruction set; auto: the best one that the processor supports"
    )
    capabilities: Capabilities = Field(
        (),
        description="GPUs that tensorrt-rtx builds for, such as SM89; empty: this machine's; always empty for tensorrt",
    )
    hardware: Literal["this-gpu", "same-capability", "ampere-and-newer"] = Field(
        "this-gpu", description="where a tensorrt engine may run; for tensorrt-rtx see capabilities"
    )
    precision: Literal["fp32", "fp16", "int8"] = Field(
        "fp32",
        description="precision of the arithmetic, read back from the file; first and last layer may stay in fp32",
    )
    sparse: bool = Field(
        True, description="open the sparse file (false: the dense one); TensorRT may use 2:4 tensor cores"
    )
    complete: Literal["none", "2:4"] = Field(
        "none", description="2:4 removes weights until at most 2 of 4 input channels remain, for sparse tensor cores"
    )
    complete_channels: Count = Field(
        256, description="layers with fewer input or output channels are not completed, as they would not gain speed"
    )
    complete_epochs: Epochs = Field(0, description="epochs of fine-tuning after the completion")
    regrow: bool = Field(False, description="keep the number of weights during completion; needs complete_epochs")
    batch_min: Count = Field(1, description="shorter batches are padded to this many images")
    batch_example: Annotated[Count, Field(ge=2)] = Field(2, description="images that the network is traced with")
    batch_opt: OptionalCount = Field(
        None, description="batch size that TensorRT chooses its kernels for; by default 32, or the closest bound"
    )
    batch_max: Count = Field(256, description="longer batches are split into calls of at most this many images")
    calibration_images: Count = Field(256, description="training images that determine the value ranges for int8")
    cuda_graphs: bool = Field(True, description="TensorRT replays a recorded graph for batch sizes that recur")
    portable: bool = Field(
        False, description="rebuild a TensorRT engine that does not open from the ONNX file beside it"
    )
    tolerance: PositiveFloat = Field(1e-3, description="largest allowed absolute difference of a logit from the twin's")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.name in ("", "twin"):
            msg = f'a target cannot be called "{self.name}", the name of the PyTorch model; rename the file'
            raise ValueError(msg)
        if self.batch_min > self.batch_max:
            msg = f"batch_min = {self.batch_min} exceeds batch_max = {self.batch_max}; raise batch_max"
            raise ValueError(msg)
        if not self.batch_min <= self.optimal_batch <= self.batch_max:
            bounds = f"batch_min = {self.batch_min} and batch_max = {self.batch_max}"
            msg = f"batch_opt = {self.batch_opt} is not between {bounds}"
            raise ValueError(msg)
        if self.precision == "fp16" and self.engine == "onnxruntime":
            msg = 'precision = "fp16" requires TensorRT: onnxruntime would round to float16 but compute in float32'
            raise ValueError(msg)
        if self.precision != "fp32" and self.engine == "sparse-cpu":
            msg = f'precision = "{self.precision}" is not supported by sparse-cpu, which computes in float32'
            raise ValueError(msg)
        if self.complete == "none" and (self.complete_epochs or self.regrow):
            msg = 'complete_epochs and regrow need complete = "2:4"; add it or remove them'
            raise ValueError(msg)
        if self.regrow and not self.complete_epochs:
            msg = "regrow = true needs complete_epochs of at least 1: regrown weights start at zero"
            raise ValueError(msg)
        for key, allowed in _ONLY_FOR.items():
            if self.engine not in allowed and getattr(self, key) != type(self).model_fields[key].default:
                msg = f'{key} is only for {any_of(allowed)}; remove it for engine = "{self.engine}"'
                raise ValueError(msg)
        return self

    @property
    def optimal_batch(self) -> int:
        """The batch size that TensorRT chooses its kernels for."""
        return self.batch_opt or min(max(32, self.batch_min), self.batch_max)


def load_target(name_or_path: str | Path) -> Target:
    """Reads a built-in target by name, or the user's own TOML file.

    Args:
        name_or_path: "onnx-cpu", or a path, which ends in ".toml" or contains a folder.

    Raises:
        RecipeError: The target or file is not found, is not TOML, or has unknown keys or invalid values; the message
            lists each of them on its own line.
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
    """The built-in targets, sorted by name."""
    return [_read(path) for path in _shipped()]


def write_target(target: Target, path: Path) -> None:
    """Writes a target as JSON beside its engine.

    Raises:
        StorageError: The file cannot be written.
    """
    write_atomic(path, target.model_dump_json(indent=2) + "\n")


def read_target(path: Path, read: Read = read_file) -> Target:
    """Reads what `write_target` wrote.

    Raises:
        InputError: The file is missing, too large, not JSON, or not a target.
    """
    try:
        return Target.model_validate_json(read(path, _MAX_JSON))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # A key from an untrusted file must not send control characters to the terminal.
        key = escaped(".".join(str(part) for part in first["loc"]))
        msg = f"{path}: not the target of an exported engine: {key and f'{key}: '}{first['msg']}"
        raise RecipeError(msg) from error


def _shipped() -> list[Path]:
    return sorted(folder("export").glob("*.toml"))


def _read(path: Path) -> Target:
    try:
        # Some editors begin a UTF-8 file with a byte-order mark, which TOML does not allow.
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
