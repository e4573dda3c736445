"""The recipe: everything that determines a build, as typed sections with defaults, bounds and descriptions.

A recipe is written in TOML; `recipe.file` reads, overrides and validates it. All other code uses the typed `Recipe`,
never a dict. Each section contains the settings of one stage, so a stage's fingerprint covers exactly what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.names import ARCH_FORMS, ARCHITECTURES, ATTACKS_ON_PAIRS, DATASETS, ENSEMBLES, LIBRARIES, Norm
from tscnc_deploy.recipe.pruning import Prune
from tscnc_deploy.recipe.section import Section, without
from tscnc_deploy.recipe.training import Constrain, Finetune, Train
from tscnc_deploy.recipe.values import (
    Architecture,
    Arguments,
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
    """The images. Training, validation and test images are disjoint; tuning and early stopping use no test images."""

    dataset: DatasetName = Field("digits", description=any_of(DATASETS))
    root: Text = Field("data", description="folder (or .npz file) with the data; not needed for digits")
    download: bool = Field(True, description="download cifar10, cifar100 and svhn to root if they are missing")
    image_size: OptionalCount = Field(
        None, description="side in pixels that every image is resized to; required for an imagefolder of mixed sizes"
    )
    validation: Share = Field(0.1, description="share of the training images set aside for validation")
    train_limit: OptionalCount = Field(None, description="use only this many training images, same share of each class")
    test_limit: OptionalCount = Field(None, description="use only this many test images, same share of each class")
    corrupt_images: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do with files of an imagefolder that are not images: refuse or skip"
    )
    augment: Literal["none", "crop", "crop-flip"] = Field(
        "none", description="random shift by an eighth of the side (crop), and mirroring (crop-flip)"
    )


class Model(Section):
    """The network, in its small-image form; normalisation is its first layer."""

    arch: Architecture = Field(
        "resnet18",
        description=f"{any_of((*ARCHITECTURES, *ARCH_FORMS))}; a function gets (classes, input_shape, **args)",
    )
    width: PositiveFloat = Field(1.0, description="multiplies the number of channels of every layer; built-in networks")
    args: Arguments = Field({}, description="keyword arguments of what makes a network that is not built in")
    pretrained: bool = Field(
        False, description="begin with the weights that torchvision or timm has for the name, which are downloaded"
    )
    checkpoint: OptionalText = Field(
        None, description="weights to start from (.safetensors, or what torch.save wrote) instead of training"
    )
    checkpoint_key: OptionalText = Field(
        None,
        description="keys that lead to the weights in that file, such as ema or state_dict.model; "
        "none takes the only network that fits, or the averaged one of two",
    )


class Threat(Section):
    """The threat model: the attacker changes each pixel by at most epsilon (Linf), or the image by that length (L2)."""

    norm: Norm = Field(
        "Linf", description="Linf bounds the change of each pixel, L2 the root of the sum of squares over the image"
    )
    epsilon: Epsilon = Field(
        8 / 255,
        description="radius, for pixels in [0, 1] (8/255 is 0.0313725); an L2 threat needs its own, such as 0.5",
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        return without(self._contradictions(), self)

    def _contradictions(self) -> Iterator[str]:
        # For L2 the default would be so small that every network is robust.
        if self.norm == "L2" and "epsilon" not in self.model_fields_set:
            yield 'threat.norm = "L2" needs threat.epsilon, as its default is for Linf; write, for example, 0.5'


class Verify(Section):
    """How robust accuracy is measured on test images, first of the twin and then of every exported engine."""

    samples: Limit = Field(0, description="at most this many test images, same share of each class; 0 uses all")
    attacks: SomeAttacks = Field(
        ("fgsm", "pgd-20", "apgd-ce-50", "square-1000"),
        description="attacks on the dense network and the twin, such as pgd-20, pgd-20x5 (5 restarts), apgd-ce-50, "
        f"apgd-t-50, fab-t-50, square-1000; or an ensemble: {', '.join(ENSEMBLES)}",
    )
    engine_attacks: Attacks = Field(
        ("pgd-20", "square-1000"),
        description="attacks on each engine in addition to replay, with the engine's own logits: the same, and "
        "twin-apgd-50, hopskipjump-2000, gap-50",
    )
    measures: Measures = Field(
        (),
        description="additional measures of the twin and each engine: corruptions, curve (accuracy over epsilon), "
        "smallest-epsilon, lipschitz, smoothing (certificates)",
    )
    batch_size: Count = Field(256, description="images per forward pass")
    cascade: bool = Field(
        False, description="attack only images that earlier attacks did not break: cheaper, same worst case"
    )
    evidence_images: Count = Field(
        256, description="number of evaluated images that go into the bundle, same share of each class"
    )
    ship_images: bool = Field(
        True,
        description="false puts indices and digests of these images into the bundle instead of images and adversarial "
        "examples, for data that must not be shipped",
    )


class Export(Section):
    """What is exported."""

    targets: Targets = Field(("onnx-cpu",), description="targets to export, see `tscnc-deploy targets`")


class Card(Section):
    """Details of the model card that the other sections do not determine."""

    license: License = Field(
        "unknown", description="licence of the network, as an identifier of the Hugging Face Hub, such as apache-2.0"
    )


class Gates(Section):
    """Limits for the lower (or upper) bounds of measured 95% intervals; a failed gate fails the build."""

    clean: Share = Field(0.0, description="minimum lower bound of clean accuracy, for the twin and engines")
    robust: Share = Field(0.0, description="minimum lower bound of robust accuracy, for the twin and engines")
    pruning_loss: OptionalShare = Field(
        None, description="maximum upper bound of the loss of robust accuracy from the dense network to the pruned one"
    )
    engine_loss: OptionalShare = Field(
        0.02, description="maximum upper bound of the loss of robust accuracy from the twin to an engine"
    )
    median_kappa: OptionalPositive = Field(None, description="maximum median condition number of the layers")


class Recipe(Section):
    """Everything that determines a build."""

    name: RecipeName = Field("", description="name of the run and the bundle; the file's name if empty")
    description: Text = Field("", description="one line for `tscnc-deploy recipes`")
    seed: Seed = Field(0, description="seed of all randomness in the build")
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
        yield from self._contradictions_of_network()
        if self.train.epochs == 0 and self.model.checkpoint is None and not self.model.pretrained:
            yield "train.epochs = 0 needs model.checkpoint, the weights to prune; set it, or train.epochs to at least 1"
        for attack in self.verify.attacks:
            if attack.startswith(ATTACKS_ON_PAIRS):
                yield f"verify.attacks contains {attack}, which compares engine and twin; move it to engine_attacks"
        if self.train.early_stop and self.data.validation == 0:
            yield (
                "train.early_stop = true needs validation images, but data.validation = 0; "
                "write data.validation = 0.1, or train.early_stop = false"
            )
        if self.prune.pattern == "2:4" and self.prune.sparsity < 0.5:
            yield (
                f'prune.pattern = "2:4" removes at least half of the weights, but prune.sparsity = '
                f"{self.prune.sparsity:g}; write at least 0.5"
            )
        # A billionth of tolerance: sums such as 0.9 + 0.1 miss 1 by a rounding error.
        if self.prune.floor + self.prune.sparsity > 1 + 1e-9:
            yield (
                f"prune.floor = {self.prune.floor:g} keeps more than prune.sparsity = {self.prune.sparsity:g} allows; "
                f"write at most prune.floor = {1 - self.prune.sparsity:.4g}"
            )

    def _contradictions_of_network(self) -> Iterator[str]:
        model, source = self.model, parse_arch(self.model.arch).source
        if source == "builtin" and model.args:
            yield f"model.args are for networks that are not built in; model.arch = {model.arch} takes model.width"
        if source != "builtin" and model.width != 1:
            yield f"model.width = {model.width:g} is for built-in networks; {model.arch} takes model.args"
        if model.pretrained and source not in LIBRARIES:
            yield (
                f"model.pretrained = true needs a network of torchvision or timm, but model.arch = {model.arch}; "
                "give a file of weights with model.checkpoint"
            )
        if model.pretrained and model.checkpoint is not None:
            yield "model.pretrained = true and model.checkpoint both say what to begin with; set one of them"
