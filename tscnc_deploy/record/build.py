"""The record of a build: all of evidence/evidence.json."""

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
    """One bound and what was measured.

    Attributes:
        name: Which figure of which engine, such as "onnx-cpu: robust accuracy, lower end".
        value: The figure that is held against the limit; None if it is not finite.
        limit: The bound.
        passed: Whether the value keeps it; a value or limit of NaN never does.
        inconclusive: Whether it failed only because the interval straddles the limit: more images would settle it.
    """

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
    """Sparsity and conditioning of a layer's weight at the end; see `tscnc.LayerCondition`.

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
    kappa: dict[Text, Figure] = Field({}, max_length=MAX_LAYERS)


class Size(Part):
    """Length in bytes of the model in one format, and how many times smaller than the dense one that is."""

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
    engines: dict[Text, CallTime] = Field({}, max_length=MAX_ENGINES + 1)

    def times_dense(self, name: str) -> float | None:
        """How many times shorter an engine's median call is than the dense network's."""
        dense, own = next(iter(self.engines.values())).median_ms, self.engines[name].median_ms
        return dense / own if dense and own else None


class BuildRecord(Part):
    """Everything that a build measured.

    What may be missing is None: not measured, or not a finite number.

    Attributes:
        schema_name: The schema that it was written in; the key "schema" in the file, see `record.migrate`.
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
        """Reads the parsed JSON of a record of any schema that `record.migrate` knows.

        Raises:
            BundleError: It does not fit its schema; names the key.
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
        """The whole record as JSON takes it, null for what is missing; `from_json` gives the same record back."""
        return self.model_dump(mode="json", by_alias=True)

    def to_bytes(self) -> bytes:
        """The record as a bundle holds it; the same record always gives the same bytes. NaN and infinity are null."""
        # Stages and attacks are in the order in which they were run.
        return strict_json.dumps(self.to_json(), sort_keys=False)
