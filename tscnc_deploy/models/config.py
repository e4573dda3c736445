"""The configuration of a classifier; validated here, whether it comes from a recipe or from a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tscnc_deploy.arch import Arch, parse_arch
from tscnc_deploy.errors import InputError

# A file may come from an untrusted source, so bound how much memory it can make this process allocate.
_MAX_CLASSES = 100_000
_MAX_CHANNELS = 1024
_MAX_SIDE = 4096
_MAX_WIDTH = 16
_MAX_JSON = 1 << 20
# Limit on means and inverse standard deviations, so that normalised pixels are finite in float32.
_LARGEST = 1e15


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of a classifier.

    Attributes:
        arch: The network's name, see `arch.parse_arch`.
        width: Multiplies the number of channels of every layer, in (0, 16].
        classes: Number of logits, from 2.
        input_shape: (channels, height, width) of one image.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel, above 0.
        args: Keyword arguments of what makes a network that is not built in: numbers, texts, truth values, or lists.

    Raises:
        InputError: A value has the wrong type or is out of range.
    """

    arch: str
    width: float
    classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    args: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def network(self) -> Arch:
        """Where the network comes from."""
        return parse_arch(self.arch)

    def __post_init__(self) -> None:
        try:
            network = parse_arch(self.arch if isinstance(self.arch, str) else "")
        except InputError as error:
            msg = f"model.arch = {self.arch!r} {error}"
            raise InputError(msg) from None
        if network.source == "builtin" and self.args:
            msg = f"model.args are for networks that are not built in; {network.name} takes model.width"
            raise InputError(msg)
        if network.source != "builtin" and self.width != 1:
            msg = f"model.width = {self.width!r} is for built-in networks; use model.args for {network.public}"
            raise InputError(msg)
        if not _is_number(self.width) or not 0 < self.width <= _MAX_WIDTH:
            msg = f"model.width = {self.width!r} must be a number above 0 and at most {_MAX_WIDTH}"
            raise InputError(msg)
        if not _is_count(self.classes, 2, _MAX_CLASSES):
            msg = f"the number of classes is {self.classes!r}; it must be from 2 to {_MAX_CLASSES}"
            raise InputError(msg)
        sizes = self.input_shape
        if len(sizes) != 3 or not _is_count(sizes[0], 1, _MAX_CHANNELS):
            form = f"[channels, height, width] with 1 to {_MAX_CHANNELS} channels"
            msg = f"the input shape is {list(sizes)}; it must be {form}"
            raise InputError(msg)
        if not all(_is_count(side, 1, _MAX_SIDE) for side in sizes[1:]):
            msg = f"the input shape is {list(sizes)}; height and width must be from 1 to {_MAX_SIDE} pixels"
            raise InputError(msg)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != sizes[0] or not all(_is_number(value) and abs(value) < _LARGEST for value in values):
                form = "one finite number for each channel"
                msg = f"the normalisation's {name} is {list(values)} for {sizes[0]} channels; it must be {form}"
                raise InputError(msg)
        if not all(value > 1 / _LARGEST for value in self.std):
            msg = f"the normalisation's std is {list(self.std)}; it must be above 0 in every channel"
            raise InputError(msg)

    def to_json(self) -> str:
        """The config as one JSON object without folders of this machine; equal configs give the same text."""
        values = dataclasses.asdict(self) | {"arch": self.network.public}
        return json.dumps(values if self.args else _without_args(values), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parses a config that `to_json` wrote.

        Raises:
            InputError: Not JSON, missing or unknown keys, or invalid values.
        """
        try:
            # Deep nesting exhausts the parser's stack, which must be an error and not a crash.
            values = json.loads(text) if len(text) <= _MAX_JSON else None
        except (ValueError, RecursionError) as error:
            msg = f"the model's config is not JSON: {error}"
            raise InputError(msg) from error
        fields = {entry.name for entry in dataclasses.fields(cls)} - {"args"}
        if not isinstance(values, dict) or _without_args(values).keys() != fields:
            msg = f"the model's config must be a JSON object with exactly the keys {', '.join(sorted(fields))}"
            raise InputError(msg)
        sequences = ("input_shape", "mean", "std")
        for name in sequences:
            if not isinstance(values[name], list):
                msg = f"the model's config has {name} = {values[name]!r}; it must be a list of numbers"
                raise InputError(msg)
        if not isinstance(values.get("args", {}), dict):
            msg = f"the model's config has args = {values['args']!r}; it must be an object"
            raise InputError(msg)
        arguments: dict[str, Any] = values | {name: tuple(values[name]) for name in sequences}
        return cls(**arguments)


def _without_args(values: dict[str, Any]) -> dict[str, Any]:
    # Files of built-in networks do not have them.
    return {name: value for name, value in values.items() if name != "args"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
