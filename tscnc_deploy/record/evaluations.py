"""The record's results for the dense network, the twin, and every engine under attack.

As everywhere in the record, missing values are None, and lists and texts are bounded.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tscnc_deploy.record.measures import Measures
from tscnc_deploy.record.parts import Accuracy, Figure, Images, Number, Part, Settings, Text

MAX_ATTACKS = MAX_ENGINES = 100


GUESSING = "guessing"
"""Name of the warning that clean accuracy cannot be told from guessing."""


class MaskingWarning(Part):
    """A sign that robust accuracy is overstated, see `robustness.check_masking`, or says nothing, see `GUESSING`.

    Attributes:
        name: The check that found it: "random-logits", "zero-gradients", "no-gradients", "gradient-free-stronger",
            "epsilon-doubled", "epsilon-whole", "transfer-stronger", "flat-operators" or "guessing".
        figure: The measured value; None if it is not finite.
        limit: The largest value that is not a sign.
        message: What it means, with the value.
    """

    name: Text
    figure: Figure = None
    limit: Figure = None
    message: Text


class Evaluation(Part):
    """Robustness of one model or engine, see `robustness.evaluate`.

    Attributes:
        clean: Accuracy on clean images.
        robust: Accuracy under all attacks together: the worst case per image.
        attacks: Accuracy under each attack.
        settings: Settings of each attack.
        cascade: Whether each attack ran only on images that were robust to the earlier ones.
        epsilon: Radius of the perturbations.
        norm: Their norm.
        queries: Number of images that were classified or differentiated, for each attack.
        warnings: Signs that the attacks were misled; None if there was no search for them.
        measures: Measures beyond the threat model.
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
        """All accuracies by name, from clean images to the worst case."""
        named = {"clean": self.clean, **self.attacks, "worst case": self.robust}
        return {name: accuracy for name, accuracy in named.items() if accuracy is not None}


class Parity(Part):
    """Difference between an engine's logits and its twin's, see `robustness.compare_logits`.

    Attributes:
        max_abs_diff: Largest difference of a logit, over clean and adversarial images; None if a logit is not finite.
        flips_clean: Indices of the clean images that the two classify differently.
        flips_adversarial: The same for the adversarial images.
        tolerance: Largest allowed difference; None allows any.
        smallest_tolerance: Smallest tolerance with two significant digits that would pass; None if there is none.
        passed: Whether the largest difference is within the tolerance.
    """

    max_abs_diff: Figure = None
    flips_clean: tuple[int, ...] = ()
    flips_adversarial: tuple[int, ...] = ()
    tolerance: Figure = None
    smallest_tolerance: Figure = None
    passed: bool


class Comparison(Part):
    """Paired comparison of two networks, see `robustness.compare`.

    Attributes:
        lost: Number of images that only the first classifies correctly.
        gained: Number of images that only the second classifies correctly.
        total: Number of all images.
        difference: (lost - gained) / total; above 0 if the second is worse.
        upper_bound: One-sided upper bound of the difference (Tango's score interval); used by the gates.
        mcnemar_p: p-value of the exact McNemar test.
    """

    lost: Images
    gained: Images
    total: Images
    difference: Annotated[float, Field(ge=-1, le=1)]
    upper_bound: Annotated[float, Field(ge=-1, le=1)]
    mcnemar_p: Annotated[float, Field(ge=0, le=1)]


class EngineLayer(Part):
    """How the runtime computes a layer; see `engines.tensorrt.facts.LayerFacts`.

    Attributes:
        name: Name of its weight.
        precision: Precision of its arithmetic.
        fits_2_4: Whether sparse tensor cores can skip its zeros.
        sparse_kernel: Whether they do; None if the runtime does not report it.
    """

    name: Text
    precision: Text | None = None
    fits_2_4: bool = False
    sparse_kernel: bool | None = None


class Completion(Part):
    """The weights that a layer lost to the 2:4 pattern; see `tscnc.LayerCompletion`."""

    name: Text
    completed: bool = False
    groups: Number = None
    excess_groups: Number = None
    nonzero: Number = None
    dropped: Number = None
    regrown: Number = None
    saliency_lost: Figure = None


class EngineEvaluation(Evaluation):
    """Robustness of an exported engine, and its comparison with the twin.

    Attributes:
        kind: What runs it, such as "onnxruntime".
        precision: Precision of its arithmetic, such as "fp32".
        provider: The device or execution provider that ran it.
        unavailable: Why it was not measured; None if it was.
        bytes: Size of its file.
        flips: Number of labels that differ from the twin's, on clean and adversarial images together.
        max_abs_diff: Largest difference of a logit.
        parity: The comparison of the logits.
        comparison: The paired comparison of the robust images.
        layers: How the runtime computes each layer, if it reports that.
        completion: What each layer lost to the 2:4 pattern, if the target requires it.
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
    """The dense network before pruning, the twin after it, and every engine by target name."""

    dense: Evaluation | None = None
    twin: Evaluation | None = None
    engines: dict[Text, EngineEvaluation] = Field({}, max_length=MAX_ENGINES)

    @property
    def named(self) -> dict[str, Evaluation]:
        """Those that were measured: dense network, twin, engines."""
        all_of_them = {"dense": self.dense, "twin": self.twin, **self.engines}
        return {name: evaluation for name, evaluation in all_of_them.items() if evaluation and evaluation.rows}

    @property
    def unavailable(self) -> list[str]:
        """Names of the engines that were exported but not attacked."""
        return [name for name, engine in self.engines.items() if engine.robust is None]

    @property
    def weakest(self) -> tuple[str, EngineEvaluation, Accuracy] | None:
        """The attacked engine with the lowest robust accuracy: its name, its evaluation and that accuracy."""
        attacked = [(name, found, found.robust) for name, found in self.engines.items() if found.robust is not None]
        return min(attacked, key=lambda engine: engine[2].accuracy, default=None)

    @property
    def measures(self) -> dict[str, Measures]:
        """Measures beyond the threat model, for the networks that have any."""
        found = {name: evaluation.measures for name, evaluation in self.named.items()}
        return {name: measures for name, measures in found.items() if measures and measures.present}

    @property
    def rows(self) -> list[str]:
        """Names of all their accuracies, the worst case last."""
        names = dict.fromkeys(name for evaluation in self.named.values() for name in evaluation.rows)
        return sorted(names, key=lambda name: name == "worst case")
