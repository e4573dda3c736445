"""The recipe: everything that determines a build, as typed sections with defaults, bounds and explanations.

A recipe is written in TOML; `recipe.file` reads, overrides and validates it. From there on only the typed `Recipe`
travels, never a dict. Each section is one stage's settings, so a stage's fingerprint covers exactly what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from tscnc_deploy.names import ARCHITECTURES, ATTACKS_ON_PAIRS, DATASETS, ENSEMBLES, Norm
from tscnc_deploy.recipe.pruning import Prune, of_transformer
from tscnc_deploy.recipe.section import Section, without
from tscnc_deploy.recipe.training import Constrain, Finetune, Train
from tscnc_deploy.recipe.values import (
    Architecture,
    Attacks,
    Count,
    DatasetName,
    License,
    Limit,
    Measures,
    OptionalCount,
    OptionalPositive,
    OptionalShare,
    OptionalText,
    RecipeName,
    Seed,
    Share,
    SomeAttacks,
    Targets,
    Text,
)
from tscnc_deploy.record.facts import Epsilon
from tscnc_deploy.text import any_of

__all__ = [
    "Card",
    "Constrain",
    "Data",
    "Export",
    "Finetune",
    "Gates",
    "Model",
    "Prune",
    "Recipe",
    "Threat",
    "Train",
    "Verify",
]


class Data(Section):
    """Which images. Training, validation and test images are disjoint; tuning and early stopping see no test image."""

    dataset: DatasetName = Field("digits", description=any_of(DATASETS))
    root: Text = Field("data", description="folder (or .npz file) that holds the data; digits needs none")
    download: bool = Field(True, description="fetch cifar10, cifar100 and svhn into root when they are not there")
    image_size: OptionalCount = Field(
        None, description="side in pixels that every image is resized to; an imagefolder of mixed sizes needs it"
    )
    validation: Share = Field(0.1, description="share of the training images set aside for validation")
    train_limit: OptionalCount = Field(None, description="use only so many training images, same share of each class")
    test_limit: OptionalCount = Field(None, description="use only so many test images, same share of each class")
    corrupt_images: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do with files of an imagefolder that are no images: refuse or skip"
    )
    augment: Literal["none", "crop", "crop-flip"] = Field(
        "none", description="random shift by an eighth of the side (crop), and mirroring (crop-flip)"
    )


class Model(Section):
    """Which network, in its small-image form; normalisation is its first layer."""

    arch: Architecture = Field("resnet18", description=any_of(ARCHITECTURES))
    width: PositiveFloat = Field(1.0, description="multiplies the number of channels of every layer")
    checkpoint: OptionalText = Field(
        None, description="weights to start from (.safetensors, or .pt with tensors only) instead of training"
    )


class Threat(Section):
    """What the attacker may do: move every pixel by at most epsilon (Linf), or the image by that length (L2)."""

    norm: Norm = Field(
        "Linf", description="Linf bounds the move of each pixel, L2 the root of the sum of squares over the image"
    )
    epsilon: Epsilon = Field(
        8 / 255,
        description="radius, for pixels in [0, 1] (8/255 is 0.0313725); an L2 threat needs its own, such as 0.5",
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        return without(self._contradictions(), self)

    def _contradictions(self) -> Iterator[str]:
        # In L2 the default would be next to nothing, and every network robust.
        if self.norm == "L2" and "epsilon" not in self.model_fields_set:
            yield 'threat.norm = "L2" needs threat.epsilon, whose default is one for Linf; write, for example, 0.5'


class Verify(Section):
    """How robust accuracy is measured, on the twin and then on every exported engine, on test images."""

    samples: Limit = Field(0, description="at most so many test images, same share of each class; 0 uses all")
    attacks: SomeAttacks = Field(
        ("fgsm", "pgd-20", "apgd-ce-50", "square-1000"),
        description="attacks on dense network and twin, such as pgd-20, pgd-20x5 (5 restarts), apgd-ce-50, apgd-t-50, "
        f"fab-t-50, square-1000; or an ensemble: {', '.join(ENSEMBLES)}",
    )
    engine_attacks: Attacks = Field(
        ("pgd-20", "square-1000"),
        description="attacks on each engine besides replay, with the engine's own logits: the same, and twin-apgd-50, "
        "hopskipjump-2000, gap-50",
    )
    measures: Measures = Field(
        (),
        description="what else to measure on the twin and each engine: corruptions, curve (accuracy over epsilon), "
        "smallest-epsilon, lipschitz, smoothing (certificates)",
    )
    batch_size: Count = Field(256, description="images per forward pass")
    cascade: bool = Field(False, description="attack only what earlier attacks left standing: cheaper, same worst case")
    evidence_images: Count = Field(
        256, description="number of evaluated images that go into the bundle, same share of each class"
    )
    ship_images: bool = Field(
        True,
        description="false puts places and digests of these images into the bundle instead of images and adversarial "
        "examples, for data that must not be shipped",
    )


class Export(Section):
    """What leaves."""

    targets: Targets = Field(("onnx-cpu",), description="names of targets, see `tscnc-deploy targets`")


class Card(Section):
    """What the model card says that nothing else here determines."""

    license: License = Field(
        "unknown", description="of the network, by the identifier that model hubs know, such as apache-2.0"
    )


class Gates(Section):
    """Bounds that the measured lower (or upper) ends of 95% intervals must keep; a failed gate fails the build."""

    clean: Share = Field(0.0, description="least lower end of clean accuracy, for twin and engines")
    robust: Share = Field(0.0, description="least lower end of robust accuracy, for twin and engines")
    pruning_loss: OptionalShare = Field(
        None, description="largest upper bound of the loss of robust accuracy from the dense network to the pruned one"
    )
    engine_loss: OptionalShare = Field(
        0.02, description="largest upper bound of the loss of robust accuracy from the twin to an engine"
    )
    median_kappa: OptionalPositive = Field(None, description="largest median condition number of the layers")


class Recipe(Section):
    """Everything that determines a build."""

    name: RecipeName = Field("", description="names the run and the bundle; the name of this file if empty")
    description: Text = Field("", description="one line for `tscnc-deploy recipes`")
    seed: Seed = Field(0, description="seed of everything random in the build")
    data: Data = Data()
    model: Model = Model()
    threat: Threat = Threat()
    train: Train = Train()
    constrain: Constrain = Constrain()
    prune: Prune = Prune()
    finetune: Finetune = Finetune()
    verify: Verify = Verify()
    export: Export = Export()
    gates: Gates = Gates()
    card: Card = Card()

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        return without(self._contradictions(), self)

    def _contradictions(self) -> Iterator[str]:
        if self.train.epochs == 0 and self.model.checkpoint is None:
            yield "train.epochs = 0 needs model.checkpoint, the weights to prune; or train for at least one epoch"
        for attack in self.verify.attacks:
            if attack.startswith(ATTACKS_ON_PAIRS):
                yield f"verify.attacks names {attack}, which sets an engine against its twin; move it to engine_attacks"
        if self.train.early_stop and self.data.validation == 0:
            yield (
                "train.early_stop = true needs validation images and data.validation = 0; "
                "write data.validation = 0.1, or train.early_stop = false"
            )
        if self.prune.pattern == "2:4" and self.prune.sparsity < 0.5:
            yield (
                f'prune.pattern = "2:4" removes at least half of the weights and prune.sparsity = '
                f"{self.prune.sparsity:g}; write at least 0.5"
            )
        yield from of_transformer(self.model.arch, self.prune)
        # A billionth of slack: 0.9 + 0.1 and their like miss 1 by a rounding error.
        if self.prune.floor + self.prune.sparsity > 1 + 1e-9:
            yield (
                f"prune.floor = {self.prune.floor:g} keeps more than prune.sparsity = {self.prune.sparsity:g} allows; "
                f"write at most prune.floor = {1 - self.prune.sparsity:.4g}"
            )
