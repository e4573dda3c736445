"""What a report shows: the record of a build, in exactly the form of evidence/evidence.json.

Everything that may be missing is None: not measured, or not a finite number. A record that was read from a bundle may
come from anyone, so lists and texts are bounded and keys that this version does not know are dropped.
"""

from __future__ import annotations

from statistics import median
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError

from tscnc_deploy.bundle.manifest import ModelFacts, Text, ThreatModel, first_problem
from tscnc_deploy.errors import BundleError
from tscnc_deploy.report.evaluations import Comparison, Evaluations
from tscnc_deploy.report.parts import Figure, Number, Part


class Gate(Part):
    """A bound and what was measured; the form of `robustness.Gate.to_json`."""

    name: Text
    value: Figure = None
    limit: Figure = None
    passed: bool
    inconclusive: bool = False

    @property
    def sign(self) -> str:
        """Which side of the limit is the right one, as far as value and outcome tell."""
        if self.value is None or self.limit is None or self.value == self.limit:
            return ""
        return "≥" if (self.value > self.limit) == self.passed else "≤"


class Layer(Part):
    """Sparsity and conditioning of a layer's weight at the end; the form of `tscnc.LayerCondition.to_json`.

    The multiply-adds are those of one image, counted in the exported file.
    """

    name: Text
    shape: Annotated[tuple[int, ...], Field(max_length=8)] = ()
    parameters: Number = None
    nonzero: Number = None
    sparsity: Figure = None
    multiply_adds: Number = None
    multiply_adds_left: Number = None
    kappa: Figure = None
    rank: Number = None
    full_rank: Number = None
    dead_filters: Number = None
    filters: Number = None
    spectral_norm: Figure = None

    @property
    def label(self) -> str:
        """The layer's name, without those of the parameter and of the part of the model that all layers are in."""
        return self.name.removesuffix(".weight").removeprefix("network.")


class Epoch(Part):
    """What was measured after an epoch; `clean` and `robust` are accuracies on validation images.

    `weight` is lambda, the weight of the constraint, where it sets itself.
    """

    stage: Text
    epoch: int
    loss: Figure = None
    clean: Figure = None
    robust: Figure = None
    sparsity: Figure = None
    lr: Figure = None
    weight: Figure = Field(None, alias="lambda")
    seconds: Figure = None
    kappa: dict[Text, Figure] = Field({}, max_length=2000)


class Size(Part):
    """Length in bytes of one form of the model, and how many times smaller than the dense one that is."""

    name: Text
    bytes: Number = None
    ratio: Figure = None


class CallTime(Part):
    """Milliseconds of the calls of one engine: half took at most the median."""

    median_ms: Figure = None
    min_ms: Figure = None
    provider: Text | None = None


class Latency(Part):
    """What `stages.latency` measured: engines by name, the first of them the dense network in onnxruntime."""

    threads: Number = None
    batch: Number = None
    rounds: Number = None
    processor: Text | None = None
    engines: dict[Text, CallTime] = Field({}, max_length=101)

    def times_dense(self, name: str) -> float | None:
        """How many times shorter an engine's median call is than the dense network's."""
        dense, own = next(iter(self.engines.values())).median_ms, self.engines[name].median_ms
        return dense / own if dense and own else None


class ReportData(Part):
    """The record of a build.

    Attributes:
        name: Names the bundle.
        recipe: The recipe as it was resolved, by section and key.
        model: The pruned network.
        threat: What the attacker may do.
        evaluations: Every accuracy.
        pruning: What the twin loses relative to the dense network.
        gates: Every bound.
        layers: Every prunable layer in the order of the network.
        history: Every epoch of every stage, in order.
        sizes: The size table.
        environment: Versions and hardware.
        seconds: How long each stage took.
        latency: How long the engines took for one image on the machine that built them; None where none ran.
        passed: Whether every gate was passed.
    """

    name: Text
    recipe: dict[Text, Any] = Field({})
    model: ModelFacts
    threat: ThreatModel
    evaluations: Evaluations = Evaluations()
    pruning: Comparison | None = None
    gates: tuple[Gate, ...] = Field((), max_length=1000)
    layers: tuple[Layer, ...] = Field((), max_length=2000)
    history: tuple[Epoch, ...] = Field((), max_length=20_000)
    sizes: tuple[Size, ...] = Field((), max_length=100)
    environment: dict[Text, Text] = Field({})
    seconds: dict[Text, Figure] = Field({})
    latency: Latency | None = None
    passed: bool

    @property
    def median_kappa(self) -> float | None:
        """Median condition number of the layers that have one."""
        kappas = [layer.kappa for layer in self.layers if layer.kappa is not None]
        return median(kappas) if kappas else None

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Reads a record, such as `Bundle.record`.

        Raises:
            BundleError: It is not of this form; names the key.
        """
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            msg = f"the record of the build has a wrong entry: {first_problem(error)}"
            raise BundleError(msg) from None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON takes it; `from_json` gives the same data back."""
        return self.model_dump(mode="json", by_alias=True)
