"""Facts about the network and the threat model, in both the manifest and the record of a bundle."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from tscnc_deploy.names import Norm
from tscnc_deploy.record.parts import Text

# Number of class names; ImageNet-21k has 21,841.
MAX_CLASSES = 100_000

Side = Annotated[int, Field(ge=1, le=1 << 20)]
Count = Annotated[int, Field(ge=0, le=1 << 60)]


def _epsilon(value: object, others: ValidationInfo) -> object:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    # Written so that NaN, which compares false with everything, is refused too.
    if others.data.get("norm") == "L2" and not 0 < value < math.inf:
        msg = "is not a radius above 0, the L2 length of a perturbation"
        raise ValueError(msg)
    if others.data.get("norm") == "Linf" and not 0 < value <= 1:
        hint = f"; write {value / 255:.6g} for {value:g}/255" if 1 < value <= 255 else ""
        msg = f"is not a radius in (0, 1], the range of the pixels{hint}"
        raise ValueError(msg)
    return value


# For models with a field `norm`, a Norm, before it.
Epsilon = Annotated[float, BeforeValidator(_epsilon)]


class Entry(BaseModel):
    """A part of the manifest: unknown keys, wrong types and out-of-range values are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelFacts(Entry):
    """The network that all engines compute.

    Attributes:
        arch: Name of the architecture, such as "resnet18".
        parameters: Number of parameters.
        prunable: Number of conv and linear weights.
        nonzero: Number of nonzero prunable weights.
        sparsity: Share of zeros among the prunable weights, in [0, 1].
        multiply_adds: MACs per image of all prunable weights; None if they do not follow from the file's shapes.
        multiply_adds_left: MACs per image of the nonzero weights.
        multiply_add_sparsity: Share of MACs that zeros save, in [0, 1].
        input_shape: (channels, height, width) of one image.
        classes: Class names in the order of the logits.
    """

    arch: Text
    parameters: Count
    prunable: Count
    nonzero: Count
    sparsity: float = Field(ge=0, le=1)
    multiply_adds: Count | None = None
    multiply_adds_left: Count | None = None
    multiply_add_sparsity: float | None = Field(None, ge=0, le=1)
    input_shape: tuple[Side, Side, Side] = Field(strict=False)
    classes: tuple[Text, ...] = Field(strict=False, min_length=1, max_length=MAX_CLASSES)


class ThreatModel(Entry):
    """How far an attacker may move an image in [0, 1]: each pixel by at most epsilon, or the image by that L2 length.

    Attributes:
        norm: "Linf" or "L2".
        epsilon: Above 0; for Linf at most 1.
    """

    norm: Norm = "Linf"
    epsilon: Epsilon
