from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tscnc_deploy.models import Classifier, build


@pytest.fixture
def tiny() -> Callable[..., Classifier]:
    """Builds networks an eighth as wide, with batch statistics that are no longer the initial ones."""

    def tiny(arch: str = "resnet18", shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> Classifier:
        channels = shape[0]
        mean, std = [0.3] * channels, [0.25] * channels
        model = build(arch, classes=5, input_shape=shape, mean=mean, std=std, width=0.125, seed=seed)
        with torch.no_grad():
            model(torch.rand(16, *shape, generator=torch.Generator().manual_seed(seed)))
        return model.eval()

    return tiny
