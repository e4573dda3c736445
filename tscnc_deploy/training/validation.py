"""Clean and robust accuracy on the validation images, measured after every epoch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from tscnc_deploy.data import Split
from tscnc_deploy.names import Norm
from tscnc_deploy.training.inner import inner_attack


@dataclass(frozen=True)
class Validation:
    """Accuracies on all validation images, and the mean adversarial cross-entropy, which breaks ties between epochs."""

    clean: float
    robust: float
    adversarial_loss: float

    def better_than(self, other: Validation | None) -> bool:
        """Whether robust accuracy is higher or, if equal, the adversarial loss is lower."""
        return other is None or (self.robust, -self.adversarial_loss) > (other.robust, -other.adversarial_loss)


def validate(
    model: nn.Module,
    attacked: nn.Module,
    split: Split,
    *,
    norm: Norm,
    epsilon: float,
    steps: int,
    batch_size: int,
    generator: torch.Generator,
) -> Validation:
    """Accuracy on clean images and under PGD (cross-entropy, random start, steps of 2.5 * epsilon / steps).

    Args:
        model: The network; evaluated in eval mode, then restored to its previous mode.
        attacked: The network for the attack: the network itself, or a faster copy of it.
        split: Validation images on the model's device; not empty.
        norm: Norm of the perturbation.
        epsilon: Radius of the ball.
        steps: Steps of PGD.
        batch_size: Images per forward pass.
        generator: Random generator for the starts, on the model's device.
    """
    was_training = model.training
    model.eval()
    clean = robust = 0
    loss = 0.0
    for start in range(0, len(split), batch_size):
        index = torch.arange(start, min(start + batch_size, len(split)), device=split.labels.device)
        images, labels = split.batch(index)
        perturbed = inner_attack(
            attacked,
            images,
            lambda logits, labels=labels: F.cross_entropy(logits.float(), labels, reduction="sum"),  # type: ignore[misc]
            norm=norm,
            epsilon=epsilon,
            steps=steps,
            step_size=2.5 * epsilon / steps,
            generator=generator,
        )
        with torch.no_grad():
            right = model(images).argmax(1) == labels
            logits = model(perturbed).float()
        clean += int(right.sum())
        robust += int((right & (logits.argmax(1) == labels)).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    model.train(was_training)
    return Validation(clean / len(split), robust / len(split), loss / len(split))
