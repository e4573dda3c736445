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
from tscnc_deploy.report.measures import Measures
from tscnc_deploy.report.parts import Accuracy, Figure, Number, Part, Settings


class MaskingWarning(Part):
    """A sign that robust accuracy is overstated; the form of `robustness.MaskingWarning.to_json`."""

    name: Text
    figure: Figure = None
    limit: Figure = None
    message: Text


class Evaluation(Part):
    """What one model or engine stood; the form of `robustness.Evaluation.to_json`.

    Attributes:
        clean: On the images as they are.
        robust: Under all attacks together: the worst case per image.
        attacks: Under each attack.
        settings: What determined each attack.
        cascade: Whether attacks only saw what earlier ones left standing.
        epsilon: Radius of the perturbations.
        norm: Their norm.
        queries: Images that were classified, or differentiated, for each attack.
        warnings: Signs that the attacks were misled; None where nobody looked for them.
        measures: What was measured beside the attacks.
    """

    clean: Accuracy | None = None
    robust: Accuracy | None = None
    attacks: dict[Text, Accuracy] = Field({}, max_length=100)
    settings: dict[Text, Settings] = Field({}, max_length=100)
    cascade: bool = False
    epsilon: Figure = None
    norm: Text | None = None
    queries: dict[Text, Number] = Field({}, max_length=100)
    warnings: Annotated[tuple[MaskingWarning, ...], Field(max_length=100)] | None = None
    measures: Measures | None = None

    @property
    def rows(self) -> dict[str, Accuracy]:
        """Every accuracy by its name, from the clean images to the worst case."""
        named = {"clean": self.clean, **self.attacks, "worst case": self.robust}
        return {name: accuracy for name, accuracy in named.items() if accuracy is not None}


class Parity(Part):
    """How far an engine's logits are from the twin's; the form of `robustness.Parity.to_json`."""

    max_abs_diff: Figure = None
    flips_clean: tuple[int, ...] = ()
    flips_adversarial: tuple[int, ...] = ()
    tolerance: Figure = None
    smallest_tolerance: Figure = None
    passed: bool | None = None


class Comparison(Part):
    """What one network loses relative to another; the form of `robustness.Comparison.to_json`."""

    lost: Number = None
    gained: Number = None
    total: Number = None
    difference: Figure = None
    upper_bound: Figure = None
    mcnemar_p: Figure = None


class EngineLayer(Part):
    """A layer as the runtime computes it; the form of `engines.trt.facts.LayerFacts`.

    Attributes:
        name: Of its weight.
        precision: That it computes in.
        fits_2_4: Whether sparse tensor cores can skip its zeros.
        sparse_kernel: Whether they do; None where the runtime does not say.
    """

    name: Text
    precision: Text | None = None
    fits_2_4: bool = False
    sparse_kernel: bool | None = None


class Completion(Part):
    """What a layer lost to the 2:4 pattern; the form of `tscnc.LayerCompletion.to_json`."""

    name: Text
    completed: bool = False
    groups: Number = None
    excess_groups: Number = None
    nonzero: Number = None
    dropped: Number = None
    regrown: Number = None
    saliency_lost: Figure = None


class EngineEvaluation(Evaluation):
    """What an exported engine stood, and how it compares with the twin.

    Attributes:
        kind: What runs it, such as "onnxruntime".
        precision: Precision of its arithmetic, such as "fp32".
        provider: The device or execution provider that ran it.
        unavailable: Why it was not measured, where it was not.
        bytes: Size of its file.
        flips: Labels that differ from the twin's, on clean and adversarial images together.
        max_abs_diff: Largest difference of a logit.
        parity: The comparison of the logits.
        comparison: The paired comparison of the robust images.
        layers: How the runtime computes every layer, where it says so.
        completion: What every layer lost to the 2:4 pattern, where the target asks for it.
    """

    kind: Text | None = None
    precision: Text | None = None
    provider: Text | None = None
    unavailable: Annotated[str, Field(max_length=10_000)] | None = None
    bytes: Number = None
    flips: Number = None
    max_abs_diff: Figure = None
    parity: Parity | None = None
    comparison: Comparison | None = None
    layers: tuple[EngineLayer, ...] = Field((), max_length=2000)
    completion: tuple[Completion, ...] = Field((), max_length=2000)


class Evaluations(Part):
    """The dense network before pruning, the twin after it, and every engine by the name of its target."""

    dense: Evaluation | None = None
    twin: Evaluation | None = None
    engines: dict[Text, EngineEvaluation] = Field({}, max_length=100)

    @property
    def named(self) -> dict[str, Evaluation]:
        """Those that were measured, in the order in which they came to be."""
        all_of_them = {"dense": self.dense, "twin": self.twin, **self.engines}
        return {name: evaluation for name, evaluation in all_of_them.items() if evaluation and evaluation.rows}

    @property
    def unavailable(self) -> list[str]:
        """Names of the engines that were exported but not attacked."""
        return [name for name, engine in self.engines.items() if engine.robust is None]

    @property
    def weakest(self) -> tuple[str, EngineEvaluation, Accuracy] | None:
        """The attacked engine of the lowest robust accuracy: its name, its evaluation and that accuracy."""
        attacked = [(name, found, found.robust) for name, found in self.engines.items() if found.robust is not None]
        return min(attacked, key=lambda engine: engine[2].accuracy, default=None)

    @property
    def measures(self) -> dict[str, Measures]:
        """What was measured beside the attacks, of those of which something was."""
        found = {name: evaluation.measures for name, evaluation in self.named.items()}
        return {name: measures for name, measures in found.items() if measures and measures.present}

    @property
    def rows(self) -> list[str]:
        """Names of all accuracies of all of them, the worst case last."""
        names = dict.fromkeys(name for evaluation in self.named.values() for name in evaluation.rows)
        return sorted(names, key=lambda name: name == "worst case")


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
