"""What every table of the record is made of. A record may come from anyone, so numbers, texts and lists are bounded."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_TEXT = 256
Text = Annotated[str, Field(max_length=MAX_TEXT)]


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# JSON has no infinity and no NaN: null stands for both.
Figure = Annotated[float | None, BeforeValidator(_finite)]
Number = Annotated[int | None, Field(ge=0)]
Scalar = bool | int | Figure | Text | None
# Of an attack or a measure: also a list, such as the losses of an attack that has several.
Setting = Scalar | Annotated[tuple[Scalar, ...], Field(max_length=100)]
Settings = dict[Text, Setting]

# More than that would be too much for the arithmetic of intervals.
Images = Annotated[int, Field(ge=0, le=10**12)]


class Part(BaseModel):
    """A table of the record; immutable. Keys that this version does not know are dropped when it is read."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """What was given of it, as JSON takes it: keys that were never set are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Accuracy(Part):
    """A share of images with its confidence interval.

    Attributes:
        correct: Number of images classified correctly.
        total: Number of all images.
        accuracy: correct / total, in [0, 1].
        low: Lower end of the interval, in [0, 1].
        high: Upper end of the interval, in [0, 1].
    """

    correct: Images
    total: Annotated[Images, Field(ge=1)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]

    @classmethod
    def counted(cls, correct: int, total: int, low: float, high: float, **more: Any) -> Self:
        """From the counts and the ends of the interval; `more` are the fields of a subclass."""
        return cls(correct=correct, total=total, accuracy=correct / total, low=low, high=high, **more)
