"""A classifier to verify: its source, the images, and the attacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tscnc_deploy.errors import InputError
from tscnc_deploy.verify.images import EvaluationImages, check_fit, evaluation_images
from tscnc_deploy.verify.sources.base import Source
from tscnc_deploy.verify.sources.bundle import BundleSource

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.recipe import Recipe

# Attacks for an engine without a twin.
BLACK_BOX_ATTACKS = ("square-1000",)
# Attacks for a file that returns labels: square searches on whether the label changes.
LABELS_ONLY_ATTACKS = ("square-1000", "hopskipjump-500")
REPLAY = "replay"


@dataclass(frozen=True, eq=False)
class Artifact:
    """One classifier and its images; `run.verify_artifact` opens and evaluates it.

    Attributes:
        source: Opens it.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        index: int64 [N], index of each image in the evidence or in the images drawn from the data set.
        classes: Names of the classes.
        examples: Adversarial examples of an earlier evaluation of the same images, for replay; None if there are none.
        attacks: Names of the default attacks.
    """

    source: Source
    images: Tensor
    labels: Tensor
    index: Tensor
    classes: tuple[str, ...]
    examples: Tensor | None
    attacks: tuple[str, ...]

    def select(self, rows: Tensor) -> Artifact:
        """The artifact with some of its images, in the order of an int64 index."""
        examples = None if self.examples is None else self.examples[rows]
        return replace(
            self, images=self.images[rows], labels=self.labels[rows], index=self.index[rows], examples=examples
        )


def on_evidence(bundle: Bundle, engine: str, recipe: Recipe, samples: int | None, seed: int) -> Artifact:
    """An engine of a bundle, or its twin, on the bundle's evidence images.

    Args:
        bundle: An opened bundle.
        engine: "twin" or the name of a target.
        recipe: The bundle's recipe, which names the attacks.
        samples: Number of images, with the same share of each class; None takes all.
        seed: Seed for choosing the images.

    Raises:
        InputError: There are fewer images.
    """
    import torch

    from tscnc_deploy.data import stratified
    from tscnc_deploy.seeds import derive_generator

    evidence = bundle.evidence
    labels = torch.from_numpy(evidence.labels)
    if samples is not None and samples > len(labels):
        msg = f"--samples {samples}: {bundle.path} has only {len(labels)} evidence images"
        raise InputError(msg)
    examples = evidence.adversarial.get(engine, evidence.adversarial.get("twin"))
    everything = Artifact(
        source=BundleSource(bundle.path, engine),
        images=torch.from_numpy(evidence.images),
        labels=labels,
        index=torch.arange(len(labels)),
        classes=tuple(bundle.manifest.model.classes),
        examples=None if examples is None else torch.from_numpy(examples),
        attacks=(*([] if examples is None else [REPLAY]), *recipe.verify.engine_attacks),
    )
    return everything.select(stratified(labels, samples or len(labels), derive_generator(seed, "verify")))


def on_test_images(source: Source, recipe: Recipe, samples: int | None, seed: int, *, gradient: bool) -> Artifact:
    """Any source, on test images of a recipe's data set.

    Args:
        source: The source to attack.
        recipe: Names the data set and the attacks.
        samples: Number of images, with the same share of each class; None takes the recipe's verify.samples.
        seed: Seed for choosing the images.
        gradient: Whether gradients are available, the model's own or a twin's.

    Raises:
        InputError: Images or classes do not match the source, or there are fewer images.
        DataError: The data cannot be loaded.
    """
    import torch

    drawn: EvaluationImages = evaluation_images(recipe, samples or recipe.verify.samples or None, seed)
    check_fit(source.name, source.form(), tuple(drawn.images.shape[1:]), drawn.classes)
    return Artifact(
        source=source,
        images=drawn.images,
        labels=drawn.labels,
        index=torch.arange(len(drawn.labels)),
        classes=drawn.classes,
        examples=None,
        attacks=recipe.verify.attacks if gradient else BLACK_BOX_ATTACKS,
    )
