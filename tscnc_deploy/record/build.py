"""The record of a build: the content of evidence/evidence.json."""

from __future__ import annotations

from statistics import median
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from tscnc_deploy import strict_json
from tscnc_deploy.errors import BundleError
from tscnc_deploy.record.evaluations import MAX_ENGINES, Comparison, Evaluations
from tscnc_deploy.record.facts import ModelFacts, ThreatModel
from tscnc_deploy.record.migrate import SCHEMA, migrate
from tscnc_deploy.record.parts import Figure, Number, Part, Text
from tscnc_deploy.record.problems import first_problem

MAX_LAYERS = 2000
MAX_EPOCHS = 20_000
MAX_GATES = 1000


class Gate(Part):
    """A limit and the measured value.

    Attributes:
        name: The engine and what is measured, such as "onnx-cpu: robust accuracy, lower end".
        value: The value that is compared with the limit; None if it is not finite.
        limit: The limit.
        passed: Whether the value is within the limit; a value or limit of NaN never passes.
        inconclusive: Whether it failed only because the interval contains the limit: more images would settle it.
    """

    name: Text
    value: Figure = None
    limit: Figure = None
    passed: bool
    inconclusive: bool = False

    @property
    def sign(self) -> str:
        """The side of the limit that passes, as far as it follows from value and outcome."""
        if self.value is None or self.limit is None or self.value == self.limit:
            return ""
        return "≥" if (self.value > self.limit) == self.passed else "≤"


class Layer(Part):
    """Sparsity and conditioning of a layer's weight after the build; see `tscnc.LayerCondition`.

    The MACs are per image, counted in the exported file.
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
        """The layer's name, without the parameter's name and without the prefix that all layers share."""
        return self.name.removesuffix(".weight").removeprefix("network.")


class Epoch(Part):
    """Measurements after an epoch; `clean` and `robust` are accuracies on validation images.

    `weight` is lambda, the weight of the constraint, if it is adaptive.
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
    kappa: dict[Text, Figure] = Field({}, max_length=MAX_LAYERS)


class Size(Part):
    """Size of the model in one format, in bytes, and its compression ratio relative to the dense model."""

    name: Text
    bytes: Number = None
    ratio: Figure = None


class CallTime(Part):
    """Median and minimum latency of one engine, in milliseconds."""

    median_ms: Figure = None
    min_ms: Figure = None
    provider: Text | None = None


class Latency(Part):
    """Results of `pipeline.stages.latency`: engines by name; the first is the dense network in onnxruntime."""

    threads: Number = None
    batch: Number = None
    rounds: Number = None
    processor: Text | None = None
    engines: dict[Text, CallTime] = Field({}, max_length=MAX_ENGINES + 1)

    def times_dense(self, name: str) -> float | None:
        """Speedup of an engine's median latency over the dense network's."""
        dense, own = next(iter(self.engines.values())).median_ms, self.engines[name].median_ms
        return dense / own if dense and own else None


class BuildRecord(Part):
    """Everything that a build measured.

    Missing values are None: not measured, or not a finite number.

    Attributes:
        schema_name: The schema that it was written with; the key "schema" in the file, see `record.migrate`.
        name: Name of the bundle.
        recipe: The resolved recipe, by section and key.
        model: The pruned network.
        threat: The threat model.
        evaluations: All accuracies.
        pruning: The twin's loss relative to the dense network.
        gates: All gates.
        layers: All prunable layers in the order of the network.
        history: Every epoch of every stage, in order.
        sizes: Model size by format.
        environment: Versions and hardware.
        seconds: Duration of each stage.
        latency: Latency of the engines for one image on the build machine; None if none ran.
        passed: Whether every gate was passed.
    """

    schema_name: Literal["tscnc-record/0", "tscnc-record/1"] = Field(SCHEMA, alias="schema")
    name: Text
    recipe: dict[Text, Any] = Field({})
    model: ModelFacts
    threat: ThreatModel
    evaluations: Evaluations = Evaluations()
    pruning: Comparison | None = None
    gates: tuple[Gate, ...] = Field((), max_length=MAX_GATES)
    layers: tuple[Layer, ...] = Field((), max_length=MAX_LAYERS)
    history: tuple[Epoch, ...] = Field((), max_length=MAX_EPOCHS)
    sizes: tuple[Size, ...] = Field((), max_length=100)
    environment: dict[Text, Text] = Field({}, max_length=100)
    seconds: dict[Text, Figure] = Field({})
    latency: Latency | None = None
    passed: bool

    @property
    def median_kappa(self) -> float | None:
        """Median condition number over the layers that have one."""
        kappas = [layer.kappa for layer in self.layers if layer.kappa is not None]
        return median(kappas) if kappas else None

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Reads the parsed JSON of a record of any schema that `record.migrate` knows.

        Raises:
            BundleError: It does not match its schema; the message names the key.
        """
        try:
            return cls.model_validate(migrate(record))
        except ValidationError as error:
            msg = f"the record of the build has a wrong entry: {first_problem(error)}"
            raise BundleError(msg) from None
        except ValueError as error:
            msg = f"the record of the build {error}"
            raise BundleError(msg) from None

    def to_json(self) -> dict[str, Any]:
        """The whole record as JSON values, with null for missing values; `from_json` is the inverse."""
        return self.model_dump(mode="json", by_alias=True)

    def to_bytes(self) -> bytes:
        """The record as stored in a bundle; equal records give equal bytes. NaN and infinity become null."""
        # Stages and attacks are in the order in which they were run.
        return strict_json.dumps(self.to_json(), sort_keys=False)
