"""The part of the record beyond the threat model: the results of `robustness.measure`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tscnc_deploy.record.parts import Accuracy, Figure, Number, Part, Settings, Text

# Bounded because plots use it for their axes.
Radius = Annotated[float, Field(ge=0, le=1e6)]


class Mean(Part):
    """A mean of accuracies on the same images, with the ends of its 95% interval."""

    accuracy: Annotated[float, Field(ge=0, le=1)]
    total: Annotated[int, Field(ge=1)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]


class Severity(Accuracy):
    """Accuracy under a corruption at one severity."""

    severity: Annotated[int, Field(ge=1, le=100)]


class Corruptions(Part):
    """Accuracy under common corruptions, see `robustness.evaluate_corruptions`."""

    clean: Accuracy | None = None
    mean: Mean | None = None
    corruptions: dict[Text, Annotated[tuple[Severity, ...], Field(max_length=100)]] = Field({}, max_length=100)
    seed: Number = None

    @property
    def severities(self) -> list[int]:
        """All severities in ascending order."""
        return sorted({found.severity for row in self.corruptions.values() for found in row})

    def at(self, severity: int, corruption: str | None = None) -> float | None:
        """Accuracy at a severity under one corruption, or the mean over all corruptions."""
        rows = self.corruptions.values() if corruption is None else [self.corruptions[corruption]]
        return _mean([found.accuracy for row in rows for found in row if found.severity == severity])

    def over_severities(self, corruption: str) -> float | None:
        """Mean accuracy under one corruption."""
        return _mean([found.accuracy for found in self.corruptions[corruption]])

    @property
    def widest(self) -> float:
        """The largest distance of an interval's end from its accuracy."""
        found = [share for row in self.corruptions.values() for share in row]
        return max((max(share.high - share.accuracy, share.accuracy - share.low) for share in found), default=0.0)


class CurvePoint(Accuracy):
    """Share of images that are robust at an epsilon."""

    epsilon: Radius


class Curve(Part):
    """Worst-case accuracy over epsilon, see `robustness.accuracy_curve`."""

    norm: Text | None = None
    clean: Accuracy | None = None
    curve: tuple[CurvePoint, ...] = Field((), max_length=1000)
    settings: dict[Text, Settings] = Field({}, max_length=100)

    @property
    def points(self) -> dict[float, Accuracy]:
        """All accuracies by epsilon, ascending; clean accuracy is at 0."""
        clean = {0.0: self.clean} if self.clean else {}
        return clean | {point.epsilon: point for point in sorted(self.curve, key=lambda point: point.epsilon)}


class Quantile(Part):
    """A quantile over the images, with its 95% interval; None means infinite.

    Attributes:
        share: In (0, 1); 0.5 is the median.
        value: The smallest value that at least this share of images does not exceed.
        low: Lower end of the confidence interval.
        high: Upper end; None if there are too few images for one.
    """

    share: Annotated[float, Field(ge=0, le=1)]
    value: Figure = None
    low: Figure = None
    high: Figure = None


class SmallestEpsilons(Part):
    """Smallest adversarial epsilons, see `robustness.smallest_epsilons`; None means infinite."""

    norm: Text | None = None
    largest: Figure = None
    total: Number = None
    misclassified: Number = None
    robust: Accuracy | None = None
    quantiles: tuple[Quantile, ...] = Field((), max_length=100)
    settings: Settings = Field({}, max_length=100)


class Lipschitz(Part):
    """Local Lipschitz constants, see `robustness.local_lipschitz`."""

    norm: Text | None = None
    epsilon: Figure = None
    total: Number = None
    mean: Figure = None
    standard_error: Figure = None
    largest: Figure = None
    quantiles: tuple[Quantile, ...] = Field((), max_length=100)
    steps: Number = None
    restarts: Number = None
    seed: Number = None


class Certified(Accuracy):
    """Share of images certified for their label at a radius."""

    radius: Radius


class Smoothing(Part):
    """Certificates of the smoothed classifier, see `robustness.certify`."""

    sigma: Figure = None
    n0: Number = None
    n: Number = None
    alpha: Figure = None
    seed: Number = None
    norm: Text | None = None
    base: Accuracy | None = None
    abstained: Number = None
    largest_radius: Figure = None
    curve: tuple[Certified, ...] = Field((), max_length=1000)

    @property
    def points(self) -> dict[float, Accuracy]:
        """All certified accuracies by radius, ascending."""
        return {point.radius: point for point in sorted(self.curve, key=lambda point: point.radius)}


Measure = Corruptions | Curve | SmallestEpsilons | Lipschitz | Smoothing


class Measures(Part):
    """Measures of one model or engine beyond the threat model, by the names in `names.MEASURES`."""

    corruptions: Corruptions | None = None
    curve: Curve | None = None
    smallest_epsilon: SmallestEpsilons | None = Field(None, alias="smallest-epsilon")
    lipschitz: Lipschitz | None = None
    smoothing: Smoothing | None = None

    @property
    def present(self) -> bool:
        """Whether it has any."""
        return any(getattr(self, name) is not None for name in type(self).model_fields)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
