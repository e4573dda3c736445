"""What every table of the record is made of. A record may come from anyone, so numbers, texts and lists are bounded."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tscnc_deploy.bundle.manifest import Text


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Figure = Annotated[float | None, BeforeValidator(_finite)]
Number = Annotated[int | None, Field(ge=0)]
Scalar = bool | int | Figure | Text | None
Settings = dict[Text, Scalar]

# Of images; more than that is no count, and would be too much for the arithmetic of intervals.
_MOST = 10**12


class Part(BaseModel):
    """A table of the record; immutable."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class Accuracy(Part):
    """Images classified correctly, of all images, with the ends of the 95% interval of the share."""

    correct: Annotated[int, Field(ge=0, le=_MOST)]
    total: Annotated[int, Field(ge=1, le=_MOST)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]
