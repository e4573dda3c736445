"""One small trained network, and what tests do with it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tscnc_deploy.data import Dataset
from tscnc_deploy.models import Classifier, build

MEAN, STD = (0.3,), (0.4,)


@dataclass(frozen=True, eq=False)
class Files:
    """One small trained network, and the files made from it.

    Attributes:
        model: Images [N, 1, 8, 8] -> 10 logits; normalises by MEAN and STD first.
        saved: The model as this package saves it.
        weights: Its network's state dict alone, .pt.
        whole: The exported model, which takes pixels.
        bare: The exported network, which takes normalised pixels.
        permuted: Like bare, with the logits in the order of PLACES.
    """

    model: Classifier
    saved: Path
    weights: Path
    whole: Path
    bare: Path
    permuted: Path


# The logit at place i of the permuted file is that of class PLACES[i].
PLACES = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)


def trained(digits: Dataset) -> Classifier:
    """Random features below a linear layer fitted by least squares: no training loop, and most digits right."""
    mean_std = {"mean": MEAN, "std": STD}
    model = build("resnet18", classes=10, input_shape=(1, 8, 8), width=0.125, **mean_std)
    images, labels = digits.train.batch(torch.arange(len(digits.train)))
    with torch.no_grad():
        model(images)
        model.eval()
        features = _features(model, images)
        ones = torch.cat([features, torch.ones(len(features), 1)], 1)
        solution = torch.linalg.lstsq(ones, nn.functional.one_hot(labels, 10).float() * 10 - 5).solution
        model.network.fc.weight.copy_(solution[:-1].T)
        model.network.fc.bias.copy_(solution[-1])
    return model


def _features(model: Classifier, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = model.network.fc.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    model(images)
    hook.remove()
    return seen[0]


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).float().mean())


def export(module: nn.Module, example: Tensor, path: Path, *, free: bool = True) -> Path:
    """Exports any module as it is, with what torch makes of it."""
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), (example,), dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False
        )
    program.save(path)
    return path


def random_images(count: int = 5, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((count, 1, 8, 8), np.float32))
