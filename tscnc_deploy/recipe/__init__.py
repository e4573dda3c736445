"""The recipe: everything that determines a build, as typed sections with defaults, bounds and explanations.

A recipe is written in TOML; `recipe.file` reads, overrides and validates it. From there on only the typed `Recipe`
travels, never a dict. Each section is one stage's settings, so a stage's fingerprint covers exactly what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tscnc_deploy.recipe.contradictions import of_constrain, of_prune
from tscnc_deploy.recipe.section import Section, without
from tscnc_deploy.recipe.values import (
    OF_ENGINES,
    Attacks,
    Count,
    Criterion,
    Epochs,
    Epsilon,
    License,
    Measures,
    NonNegative,
    Norm,
    OptionalCount,
    OptionalPositive,
    OptionalShare,
    OptionalText,
    Positive,
    RecipeName,
    Share,
    SomeAttacks,
    Stages,
    Targets,
    Text,
)
from tscnc_deploy.suggest import not_among

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "vgg16", "wrn28-10", "wrn34-10", "mobilenetv2")
DATASETS = ("digits", "cifar10", "cifar100", "svhn", "tiny-imagenet", "imagefolder", "npz")


def _architecture(value: str) -> str:
    if value not in ARCHITECTURES:
        raise ValueError(not_among(value, ARCHITECTURES))
    return value


def _dataset(value: str) -> str:
    if value not in DATASETS:
        raise ValueError(not_among(value, DATASETS))
    return value


class Data(Section):
    """Which images. Training, validation and test images are disjoint; tuning and early stopping see no test image."""

    dataset: Annotated[str, AfterValidator(_dataset)] = Field(
        "digits", description="digits, cifar10, cifar100, svhn, tiny-imagenet, imagefolder or npz"
    )
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

    arch: Annotated[str, AfterValidator(_architecture)] = Field(
        "resnet18", description="resnet18, resnet34, resnet50, vgg16, wrn28-10, wrn34-10 or mobilenetv2"
    )
    width: Positive = Field(1.0, description="multiplies the number of channels of every layer")
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


class Train(Section):
    """Adversarial training of the dense network with TRADES (arXiv 1901.08573); also the loop of later stages."""

    epochs: Epochs = Field(100, description="passes over the training images; 0 only with model.checkpoint")
    batch_size: Annotated[int, Field(ge=2, lt=2**31)] = Field(128, description="images per step, at least 2")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd (with momentum) or adamw")
    lr: Positive = Field(0.1, description="peak learning rate")
    momentum: Share = Field(0.9, description="momentum of sgd")
    nesterov: bool = Field(True, description="Nesterov momentum for sgd")
    weight_decay: NonNegative = Field(5e-4, description="weight decay")
    schedule: Literal["cosine", "one-cycle", "constant"] = Field(
        "cosine", description="learning rate over the steps of this stage; prune is constant, finetune cosine"
    )
    warmup: Share = Field(0.2, description="one-cycle: share of the steps in which the rate rises")
    beta: NonNegative = Field(6.0, description="weight of the TRADES term KL(adversarial || clean)")
    clean_epochs: Epochs = Field(0, description="epochs on clean images before adversarial ones")
    ramp_epochs: Epochs = Field(0, description="epochs over which epsilon and beta then rise linearly")
    inner_steps: Count = Field(10, description="steps of the inner PGD from a random start")
    inner_step_size: Positive = Field(
        0.25, description="its step as a share of epsilon; 1 step of 1.25 is fast FGSM training (arXiv 2001.03994)"
    )
    clip_norm: NonNegative = Field(0.0, description="largest norm of the gradient; 0 does not clip")
    ema: Share = Field(0.0, description="decay per step of the weight average; 0 keeps the raw weights")
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="momentum of batch-norm statistics")
    early_stop: bool = Field(True, description="keep the epoch of the best robust accuracy on validation images")
    validation_steps: Count = Field(10, description="PGD steps on the validation images after every epoch")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="auto is bf16 autocast on GPUs that have it, else fp32; CPUs with AVX512-BF16 are faster in bf16",
    )
    channels_last: bool | Literal["auto"] = Field(
        "auto", description="NHWC memory: true, false, or auto (on a GPU, with bf16, and from 32x32 pixels)"
    )
    compile: bool = Field(False, description="torch.compile training and inner attack: for long trainings on a GPU")

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        return without(self._contradictions(), self)

    def _contradictions(self) -> Iterator[str]:
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            yield "train.nesterov = true needs momentum and train.momentum = 0; write train.nesterov = false"
        # Without epochs, weights come from a checkpoint and no ramp applies.
        if 0 < self.epochs < self.clean_epochs + self.ramp_epochs:
            yield (
                f"train.clean_epochs + train.ramp_epochs = {self.clean_epochs + self.ramp_epochs} "
                f"exceeds train.epochs = {self.epochs}"
            )


class Constrain(Section):
    """The condition-number constraint lambda * L_CC of arXiv 2503.20454, beside the adversarial loss."""

    constraint: Literal["none", "log-frobenius", "kaporin", "tscnc"] = Field(
        "tscnc", description="none, log-frobenius (the paper's), kaporin (sees the spectrum), or tscnc (both)"
    )
    weight: NonNegative = Field(1e-3, alias="lambda", description="lambda, the weight of the constraint")
    gradient_share: OptionalPositive = Field(
        None, description="sets lambda itself: the constraint's gradient as long as this share of the loss's, smoothed"
    )
    tau: Positive = Field(1e-4, description="tau inside the logarithm of log-frobenius")
    jitter: Positive = Field(1e-4, description="kaporin: jitter relative to the mean eigenvalue of the Gram matrix")
    interval: Count = Field(1, description="apply it every so many steps, with lambda times as large")
    stages: Stages = Field(("prune", "finetune"), description="stages in which it is applied")

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        return without(of_constrain(self), self)


class Prune(Section):
    """The sparse constraint: which weights become zero, and when."""

    sparsity: Share = Field(0.95, description="share of zeros among all conv and linear weights, met to the weight")
    criterion: Criterion = Field(
        "adversarial-taylor",
        description="saliency that weights are ranked by (adversarial-taylor is TSCNC's), masks learned as scores "
        "beside frozen weights (hydra, harp), or moved by prune-and-regrow (flying-bird)",
    )
    pattern: Literal["unstructured", "2:4"] = Field(
        "unstructured", description="where zeros may stand; 2:4 is along input channels, for sparse tensor cores"
    )
    budget: Literal["parameters", "macs", "latency"] = Field(
        "parameters",
        description="what else shrinks to the share of weights that stays: nothing (parameters), the multiply-adds "
        "(macs), or the time of one image in the engine sparse-cpu, by its cost model (latency)",
    )
    floor: Share = Field(0.01, description="least share of its weights that every layer keeps")
    epochs: Count = Field(10, description="passes over the training images while the sparsity rises")
    lr: Positive = Field(0.01, description="learning rate while pruning, constant")
    score_lr: Positive = Field(0.1, description="hydra and harp: peak learning rate of the scores, for SGD")
    updates: Count = Field(10, description="number of mask updates, on the cubic schedule where weights are ranked")
    saliency_batches: Count = Field(10, description="batches that a Taylor saliency is averaged over at each update")
    regrow: bool = Field(True, description="masked weights keep learning and may come back until the last update")

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        return without(of_prune(self), self)


class Finetune(Section):
    """Adversarial training of the pruned network with its masks frozen."""

    epochs: Epochs = Field(20, description="passes over the training images; 0 leaves the pruned weights as they are")
    lr: Positive = Field(0.01, description="peak learning rate, falling to zero along a cosine")


class Verify(Section):
    """How robust accuracy is measured, on the twin and then on every exported engine, on test images."""

    samples: Epochs = Field(0, description="at most so many test images, same share of each class; 0 uses all")
    attacks: SomeAttacks = Field(
        ("fgsm", "pgd-20", "apgd-ce-50", "square-1000"),
        description="attacks on dense network and twin, such as pgd-20, pgd-20x5 (5 restarts), apgd-ce-50, apgd-t-50, "
        "fab-t-50, square-1000, fast, autoattack-standard",
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
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="seed of everything random in the build")
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
            if attack.startswith(OF_ENGINES):
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
        # A billionth of slack: 0.9 + 0.1 and their like miss 1 by a rounding error.
        if self.prune.floor + self.prune.sparsity > 1 + 1e-9:
            yield (
                f"prune.floor = {self.prune.floor:g} keeps more than prune.sparsity = {self.prune.sparsity:g} allows; "
                f"write at most prune.floor = {1 - self.prune.sparsity:.4g}"
            )
