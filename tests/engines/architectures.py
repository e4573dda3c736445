"""One pruned network of each architecture, and its exported files, which all tests and workers of a run share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from tests.engines.nets import random_images
from tscnc_deploy import models
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.half import write_half
from tscnc_deploy.engines.onnx.int8 import write_int8
from tscnc_deploy.models import Classifier

SHAPE = (3, 32, 32)
# Small, but with enough channels for the kernels of eight bits.
WIDTHS = {
    "resnet18": 0.25,
    "resnet34": 0.125,
    "resnet50": 0.125,
    "vgg16": 0.125,
    "wrn28-10": 0.1,
    "mobilenetv2": 0.25,
    "vit-tiny": 0.34,
}


def network(
    arch: str = "resnet18", size: int = SHAPE[1], density: float = 0.1, width: float | None = None
) -> Classifier:
    """A classifier in eval mode with random zeros in all weights, and norms that keep activations near 1."""
    width = WIDTHS[arch] if width is None else width
    shape, mean, std = (3, size, size), (0.5,) * 3, (0.25,) * 3
    model = models.build(arch, classes=10, input_shape=shape, mean=mean, std=std, width=width)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                keep = torch.rand(parameter.shape, generator=generator) < density
                keep.view(-1)[0] = True
                parameter *= keep / density**0.5
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        model(torch.rand((8, 3, size, size), generator=generator))
        # A channel that hardly varies would have its rounding errors multiplied.
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.clamp_(min=0.01)
    return model.eval()


class Exported:
    """The files of `network`, each written when it is first asked for; do not change them.

    Args:
        made_once: Gives the path of a name; the second argument writes the file there if no worker has yet.
    """

    def __init__(self, made_once: Callable[[str, Callable[[Path], object]], Path]) -> None:
        self._made_once = made_once

    def dense(self, arch: str = "resnet18", size: int = SHAPE[1], density: float = 0.1) -> Path:
        """What `export_onnx` writes, traced with three images."""

        def write(path: Path) -> None:
            model = network(arch, size, density)
            export_onnx(model, path, input_shape=(3, size, size), batch_example=3)

        return self._made_once(f"{arch}-{size}-{density}.onnx", write)

    def half(self, arch: str = "resnet18", size: int = SHAPE[1]) -> Path:
        """What `write_half` makes of it."""
        return self._made_once(f"{arch}-{size}-half.onnx", lambda path: write_half(self.dense(arch, size), path))

    def int8(self, runtime: str, arch: str = "resnet18", size: int = SHAPE[1], images: int = 8) -> Path:
        """What `write_int8` makes of it with so many random images."""
        points = random_images(images, (3, size, size))
        return self._made_once(
            f"{arch}-{size}-{runtime}-{images}.onnx",
            lambda path: write_int8(self.dense(arch, size), path, points, runtime=runtime),
        )
