"""What the record says of the dense network, the twin and every engine under attack.

As everywhere in the record, what may be missing is None, and lists and texts are bounded.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tscnc_deploy.record.measures import Measures
from tscnc_deploy.record.parts import Accuracy, Figure, Images, Number, Part, Settings, Text

MAX_ATTACKS = MAX_ENGINES = 100


class MaskingWarning(Part):
    """A sign that robust accuracy is overstated, see `robustness.check_masking`.

    Attributes:
        name: Which check found it: "random-logits", "zero-gradients", "gradient-free-stronger", "epsilon-doubled",
            "epsilon-whole" or "transfer-stronger".
        figure: What was measured; None if it is not finite.
        limit: The largest figure that would have been no sign.
        message: What it means, with the figure.
    """

    name: Text
    figure: Figure = None
    limit: Figure = None
    message: Text


class Evaluation(Part):
    """How robust one model or engine is, see `robustness.evaluate`.

    Attributes:
        clean: On the images as they are.
        robust: Under all attacks together: the worst case per image.
        attacks: Under each attack.
        settings: What determined each attack.
        cascade: Whether attacks only saw the images that earlier ones had left robust.
        epsilon: Radius of the perturbations.
        norm: Their norm.
        queries: Images that were classified, or differentiated, for each attack.
        warnings: Signs that the attacks were misled; None where nobody looked for them.
        measures: What was measured beside the attacks.
    """

    clean: Accuracy | None = None
    robust: Accuracy | None = None
    attacks: dict[Text, Accuracy] = Field({}, max_length=MAX_ATTACKS)
    settings: dict[Text, Settings] = Field({}, max_length=MAX_ATTACKS)
    cascade: bool = False
    epsilon: Figure = None
    norm: Text | None = None
    queries: dict[Text, Number] = Field({}, max_length=MAX_ATTACKS + 1)
    warnings: Annotated[tuple[MaskingWarning, ...], Field(max_length=100)] | None = None
    measures: Measures | None = None

    @property
    def rows(self) -> dict[str, Accuracy]:
        """Every accuracy by its name, from the clean images to the worst case."""
        named = {"clean": self.clean, **self.attacks, "worst case": self.robust}
        return {name: accuracy for name, accuracy in named.items() if accuracy is not None}


class Parity(Part):
    """How far an engine's logits are from its twin's, see `robustness.compare_logits`.

    Attributes:
        max_abs_diff: Largest difference of a logit, over clean and adversarial images; None if a logit is not finite.
        flips_clean: Indices of the clean images that the two classify differently.
        flips_adversarial: The same for the adversarial images.
        tolerance: Largest difference that is allowed; None if any is.
        smallest_tolerance: Smallest tolerance with two significant digits that would have passed; None if there is
            none.
        passed: Whether the largest difference is within the tolerance.
    """

    max_abs_diff: Figure = None
    flips_clean: tuple[int, ...] = ()
    flips_adversarial: tuple[int, ...] = ()
    tolerance: Figure = None
    smallest_tolerance: Figure = None
    passed: bool


class Comparison(Part):
    """What one network loses relative to another, see `robustness.compare`.

    Attributes:
        lost: Images that only the first has right.
        gained: Images that only the second has right.
        total: All images.
        difference: (lost - gained) / total; above 0 where the second is worse.
        upper_bound: One-sided upper bound of the difference (Tango's score interval); what a gate looks at.
        mcnemar_p: p-value of the exact McNemar test, to be read beside it.
    """

    lost: Images
    gained: Images
    total: Images
    difference: Annotated[float, Field(ge=-1, le=1)]
    upper_bound: Annotated[float, Field(ge=-1, le=1)]
    mcnemar_p: Annotated[float, Field(ge=0, le=1)]


class EngineLayer(Part):
    """A layer as the runtime computes it; see `engines.tensorrt.facts.LayerFacts`.

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
    """What a layer lost to the 2:4 pattern; see `tscnc.LayerCompletion`."""

    name: Text
    completed: bool = False
    groups: Number = None
    excess_groups: Number = None
    nonzero: Number = None
    dropped: Number = None
    regrown: Number = None
    saliency_lost: Figure = None


class EngineEvaluation(Evaluation):
    """How robust an exported engine is, and how it compares with the twin.

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
    engines: dict[Text, EngineEvaluation] = Field({}, max_length=MAX_ENGINES)

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
