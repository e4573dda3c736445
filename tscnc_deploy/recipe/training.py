"""The sections of a recipe that configure training and the constraint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from tscnc_deploy.recipe.section import Section, without
from tscnc_deploy.recipe.values import Count, Epochs, OptionalPositive, Share, Stages


class Train(Section):
    """Adversarial training of the dense network with TRADES (arXiv 1901.08573); later stages use the same loop."""

    epochs: Epochs = Field(100, description="epochs; 0 only with model.checkpoint")
    batch_size: Annotated[int, Field(ge=2, lt=2**31)] = Field(128, description="images per step, at least 2")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd (with momentum) or adamw")
    lr: PositiveFloat = Field(0.1, description="peak learning rate")
    momentum: Share = Field(0.9, description="momentum of sgd")
    nesterov: bool = Field(True, description="Nesterov momentum for sgd")
    weight_decay: NonNegativeFloat = Field(5e-4, description="weight decay")
    schedule: Literal["cosine", "one-cycle", "constant"] = Field(
        "cosine", description="learning rate schedule of this stage; prune uses constant, finetune cosine"
    )
    warmup: Share = Field(0.2, description="one-cycle: share of the steps during which the rate rises")
    beta: NonNegativeFloat = Field(6.0, description="weight of the TRADES term KL(adversarial || clean)")
    clean_epochs: Epochs = Field(0, description="epochs on clean images before adversarial training")
    ramp_epochs: Epochs = Field(0, description="epochs after that during which epsilon and beta rise linearly")
    inner_steps: Count = Field(10, description="steps of the inner PGD from a random start")
    inner_step_size: PositiveFloat = Field(
        0.25,
        description="its step size as a share of epsilon; 1 step of 1.25 is fast FGSM training (arXiv 2001.03994)",
    )
    clip_norm: NonNegativeFloat = Field(0.0, description="maximum norm of the gradient; 0 does not clip")
    ema: Share = Field(0.0, description="decay per step of the weight average; 0 keeps the raw weights")
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="momentum of batch-norm statistics")
    early_stop: bool = Field(True, description="keep the epoch with the best robust accuracy on validation images")
    validation_steps: Count = Field(10, description="PGD steps on the validation images after every epoch")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="auto is bf16 autocast on GPUs with support, else fp32; CPUs with AVX512-BF16 are faster in bf16",
    )
    channels_last: bool | Literal["auto"] = Field(
        "auto", description="NHWC memory: true, false, or auto (on a GPU, with bf16, and from 32x32 pixels)"
    )
    compile: bool = Field(
        False, description="use torch.compile for training and inner attack; for long trainings on a GPU"
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        return without(self._contradictions(), self)

    def _contradictions(self) -> Iterator[str]:
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            yield "train.nesterov = true needs momentum, but train.momentum = 0; write train.nesterov = false"
        # Without epochs, the weights come from a checkpoint and no ramp applies.
        if 0 < self.epochs < self.clean_epochs + self.ramp_epochs:
            yield (
                f"train.clean_epochs + train.ramp_epochs = {self.clean_epochs + self.ramp_epochs} "
                f"exceeds train.epochs = {self.epochs}"
            )


class Constrain(Section):
    """The condition-number constraint lambda * L_CC of arXiv 2503.20454, added to the adversarial loss."""

    constraint: Literal["none", "log-frobenius", "kaporin", "tscnc"] = Field(
        "tscnc",
        description="none, log-frobenius (from the paper; shrinks weights), kaporin (uses the spectrum and does not "
        "depend on the scale of the weights), or tscnc (both)",
    )
    weight: NonNegativeFloat = Field(
        1e-3,
        alias="lambda",
        description="lambda, the weight of the constraint; with log-frobenius and tscnc, 0.1 can shrink a network to "
        "nothing",
    )
    gradient_share: OptionalPositive = Field(
        None,
        description="sets lambda so that the norm of the constraint's gradient is this share of the loss's, "
        "smoothed; so far no better than a fixed lambda",
    )
    tau: PositiveFloat = Field(1e-4, description="log-frobenius: tau inside the logarithm")
    jitter: PositiveFloat = Field(
        1e-4, description="kaporin: jitter relative to the mean eigenvalue of the Gram matrix"
    )
    interval: Count = Field(1, description="apply it every N steps, with N times lambda")
    stages: Stages = Field(("prune", "finetune"), description="stages in which it is applied")

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        return without(_of_constrain(self), self)


class Finetune(Section):
    """Adversarial training of the pruned network with its masks frozen."""

    epochs: Epochs = Field(20, description="epochs; 0 keeps the pruned weights unchanged")
    lr: PositiveFloat = Field(0.01, description="peak learning rate, decaying to zero along a cosine")


def _of_constrain(constrain: Constrain) -> Iterator[str]:
    """An automatic lambda together with a fixed one, or without a constraint."""
    share = constrain.gradient_share
    if share is None:
        return
    if constrain.weight != type(constrain).model_fields["weight"].default:
        yield (
            f"constrain.gradient_share = {share:g} and constrain.lambda = {constrain.weight:g} both set lambda; "
            "remove one of them"
        )
    if constrain.constraint == "none":
        yield (
            f'constrain.gradient_share = {share:g} needs a constraint, but constrain.constraint = "none"; '
            'write "tscnc", "kaporin" or "log-frobenius"'
        )
