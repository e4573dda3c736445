"""The training loop of the train, prune and finetune stages: TRADES plus the condition-number constraint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from tscnc_deploy.data import Dataset, augment
from tscnc_deploy.devices import deterministic
from tscnc_deploy.errors import InputError
from tscnc_deploy.models.folded import FoldedCopy
from tscnc_deploy.models.taps import cropped
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.seeds import derive_generator, derive_seed, layers_draw_from
from tscnc_deploy.training.balls import check_radius
from tscnc_deploy.training.constraining import ConstraintTerm
from tscnc_deploy.training.criteria.base import Sparsifier
from tscnc_deploy.training.numerics import Numerics
from tscnc_deploy.training.optim import WeightAverage, build_optimizer, learning_rate
from tscnc_deploy.training.state import TrainingState
from tscnc_deploy.training.trades import Adversary, trades_loss
from tscnc_deploy.training.validation import Validation, validate
from tscnc_deploy.tscnc import conditions

# Called after every step with the number of steps done, the total number of steps, and the figures to show.
OnStep = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Phase:
    """The settings of one stage for the loop, in addition to the recipe's [train] settings."""

    name: Literal["train", "prune", "finetune"]
    epochs: int
    lr: float
    schedule: str
    clean_epochs: int = 0
    ramp_epochs: int = 0
    average: bool = True
    early_stop: bool = True


_RECORDED = ("rank", "dead_filters", "spectral_norm", "sparsity")


class Training:
    """One stage's training of a model; resuming from a checkpoint gives the same final weights.

    Args:
        model: Trained in place.
        dataset: Training and validation images.
        recipe: The whole recipe; [train], [threat], [constrain], [data] and the seed are used.
        phase: The settings of this stage.
        device: Device for training; the model and the images are moved there.
        checkpoint: File of the checkpoint, read if it exists; written after a batch if the last one is 15 seconds old.

    Raises:
        InputError: Epsilon is not smaller than the largest distance between images of this size.
    """

    def __init__(
        self, model: nn.Module, dataset: Dataset, recipe: Recipe, phase: Phase, device: torch.device, checkpoint: Path
    ) -> None:
        self.recipe, self.settings, self.phase, self.checkpoint = recipe, recipe.train, phase, checkpoint
        self.numerics = Numerics.choose(recipe.train, device, dataset.input_shape)
        if any(tensor.ndim > 4 for tensor in (*model.parameters(), *model.buffers())):
            self.numerics = replace(self.numerics, memory_format=torch.contiguous_format)
        self.model = model.to(device=device, memory_format=self.numerics.memory_format)  # type: ignore[call-overload]
        _set_norm_momentum(model, self.settings.norm_momentum)
        # The model's own weights, as used by training and saliencies.
        self.network = cropped(model, dataset.input_shape)
        self.attacked = self.numerics.attacked(model)
        self.attacked.network = self.numerics.compiled(self.attacked.network)
        self.images, self.validation = dataset.train.to(device), dataset.validation.to(device)
        self.device = device
        self.batches = max(len(self.images) // self.settings.batch_size, 1)
        self.steps = phase.epochs * self.batches
        threat = recipe.threat
        check_radius(threat.norm, threat.epsilon, dataset.input_shape)
        self.adversary = Adversary(
            threat.epsilon, self.settings.beta, self.settings.inner_steps, self.settings.inner_step_size, threat.norm
        )
        self.constraint = ConstraintTerm.of(recipe, phase.name)
        self.history: list[dict[str, Any]] = []

    def run(self, sparsifier: Sparsifier, on_step: OnStep) -> list[dict[str, Any]]:
        """Trains to the end of the phase; the model then has the final weights and is in eval mode.

        Returns:
            One entry per epoch: stage, epoch, loss, clean and robust (validation accuracies), sparsity, lr,
            lambda (None without a constraint), seconds, kappa of every layer, and its rank, dead filters, spectral norm
            and sparsity under "layers".

        Raises:
            InputError: The loss or a weight is no longer finite.
        """
        with deterministic(tf32=True):
            return self._run(sparsifier, on_step)

    def _run(self, sparsifier: Sparsifier, on_step: OnStep) -> list[dict[str, Any]]:
        forward = self.numerics.compiled(self.network)
        optimizer = build_optimizer(self.model, self.settings, self.phase.lr)
        decay = self.settings.ema if self.phase.average else 0.0
        average = WeightAverage(self.model, decay) if decay > 0 else None
        state = TrainingState(self.model, optimizer, average, sparsifier, self.constraint)
        state.load(self.checkpoint)
        judged = average.module if average is not None else self.model
        attacked = self.numerics.attacked(judged)

        while state.epoch < self.phase.epochs:
            started = time.monotonic()
            loss = self._epoch(forward, state, on_step)
            with sparsifier.masked():
                result = self._validate(judged, attacked)
                entry = self._entry(state.epoch, loss, result, sparsifier.sparsity, judged)
            self.history = state.history = [*state.history, entry | {"seconds": time.monotonic() - started}]
            if self.phase.early_stop and result is not None and result.better_than(state.best):
                state.best = result
                state.best_weights = {name: value.detach().clone() for name, value in judged.state_dict().items()}
            state.begin_epoch(state.epoch + 1)

        if state.best_weights is not None:
            self.model.load_state_dict(state.best_weights)
        elif average is not None:
            self.model.load_state_dict(average.module.state_dict())
        self.model.eval()
        self.history = state.history
        return self.history

    def _epoch(self, forward: Any, state: TrainingState, on_step: OnStep) -> float:
        """Trains the remaining batches of an epoch; returns the mean loss of the whole epoch."""
        self.history = state.history
        order = derive_generator(self.recipe.seed, self.phase.name, state.epoch, "order")
        noise = derive_generator(self.recipe.seed, self.phase.name, state.epoch, "noise", device=self.device)
        permutation = torch.randperm(len(self.images), generator=order).to(self.device)
        state.restore(order, noise)
        total = torch.tensor(state.loss, device=self.device)
        forward.train()
        batches = torch.split(permutation, self.settings.batch_size)[: self.batches]
        for index in batches[state.batch :]:
            step = state.epoch * self.batches + state.batch
            state.sparsifier.before_step(step)
            rate = self._rate(step)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            images, labels = self.images.batch(index)
            images = augment(images, self.recipe.data.augment, order)
            images = images.contiguous(memory_format=self.numerics.memory_format)
            drawn = layers_draw_from(derive_seed(self.recipe.seed, self.phase.name, step, "layers"), self.device)
            with state.sparsifier.masked(), drawn:
                state.optimizer.zero_grad(set_to_none=True)
                with self.numerics.autocast():
                    loss = trades_loss(
                        forward, self.attacked.refreshed, images, labels, self.adversary.ramped(self._ramp(step)), noise
                    )
                loss.backward()  # type: ignore[no-untyped-call]
                if self.constraint is not None:
                    self.constraint.add_gradients(self.model, step)
            state.sparsifier.after_backward()
            if self.settings.clip_norm > 0:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            state.optimizer.step()
            state.sparsifier.after_step()
            if state.average is not None:
                state.average.update_parameters(self.model)
            total += loss.detach()
            state.batch += 1
            on_step(step + 1, self.steps, self._figures(state.sparsifier.sparsity))
            if state.is_due():
                state.save(self.checkpoint, float(total), order, noise)
        mean = float(total) / self.batches
        if not math.isfinite(mean) or not all(weight.isfinite().all() for weight in self.model.parameters()):
            msg = (
                f"{self.phase.name}: the training diverged in epoch {state.epoch + 1}; "
                f"lower the learning rate ({self.phase.name}.lr = {self.phase.lr:g}) or set train.clip_norm = 1.0"
            )
            raise InputError(msg)
        return mean

    def _ramp(self, step: int) -> float:
        """Share of epsilon and beta: 0 in clean epochs, then increasing linearly to 1."""
        begin, length = self.phase.clean_epochs * self.batches, self.phase.ramp_epochs * self.batches
        if step < begin:
            return 0.0
        return min((step - begin + 1) / length, 1.0) if length else 1.0

    def _rate(self, step: int) -> float:
        return learning_rate(
            step, self.steps, peak=self.phase.lr, schedule=self.phase.schedule, warmup=self.settings.warmup
        )

    def _validate(self, model: nn.Module, attacked: FoldedCopy) -> Validation | None:
        if len(self.validation) == 0:
            return None
        with self.numerics.autocast():
            return validate(
                model,
                attacked.refreshed(),
                self.validation,
                norm=self.recipe.threat.norm,
                epsilon=self.recipe.threat.epsilon,
                steps=self.settings.validation_steps,
                batch_size=max(self.settings.batch_size, 256),
                # The same random starts after every epoch, so that epochs differ only in their weights.
                generator=derive_generator(self.recipe.seed, "validation", device=self.device),
            )

    def _entry(
        self, epoch: int, loss: float, result: Validation | None, sparsity: float, model: nn.Module
    ) -> dict[str, Any]:
        """The history's entry for an epoch."""
        layers = [layer.to_json() for layer in conditions(model)]
        return {
            "stage": self.phase.name,
            "epoch": epoch + 1,
            "loss": loss,
            "clean": result.clean if result else None,
            "robust": result.robust if result else None,
            "sparsity": sparsity,
            "lr": self._rate((epoch + 1) * self.batches - 1),
            "lambda": self.constraint.weight if self.constraint is not None else None,
            "kappa": {layer["name"]: layer["kappa"] for layer in layers},
            "layers": {layer["name"]: {figure: layer[figure] for figure in _RECORDED} for layer in layers},
        }

    def _figures(self, sparsity: float) -> dict[str, float]:
        """Figures for a progress bar: those of the last epoch and the current sparsity."""
        figures = {"sparsity": sparsity}
        if self.history:
            last = self.history[-1]
            figures |= {key: last[key] for key in ("loss", "clean", "robust") if last[key] is not None}
            known = sorted(value for value in last["kappa"].values() if value is not None)
            if known:
                figures["kappa"] = known[len(known) // 2]
        return figures


def _set_norm_momentum(model: nn.Module, momentum: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = momentum
