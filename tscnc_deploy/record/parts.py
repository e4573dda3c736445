"""Building blocks of the record. Records may be untrusted, so numbers, texts and lists are bounded."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_TEXT = 256
Text = Annotated[str, Field(max_length=MAX_TEXT)]


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# JSON has no infinity or NaN; both are written as null.
Figure = Annotated[float | None, BeforeValidator(_finite)]
Number = Annotated[int | None, Field(ge=0)]
Scalar = bool | int | Figure | Text | None
# A setting of an attack or measure; may be a list, such as several losses.
Setting = Scalar | Annotated[tuple[Scalar, ...], Field(max_length=100)]
Settings = dict[Text, Setting]

# Higher counts would be too slow for computing intervals.
Images = Annotated[int, Field(ge=0, le=10**12)]


class Part(BaseModel):
    """A table of the record; immutable. Keys that this version does not know are dropped when it is read."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The fields that were set, as JSON values."""
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
        """Creates it from the counts and the ends of the interval; `more` holds the fields of a subclass."""
        return cls(correct=correct, total=total, accuracy=correct / total, low=low, high=high, **more)
