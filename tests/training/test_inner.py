import torch
from torch import nn
from torch.nn import functional as F

from tests.training.nets import linear
from tscnc_deploy.training.inner import inner_attack


def test_ascent_on_a_linear_model_reaches_the_corner_of_the_ball():
    images = torch.full((3, 1, 2, 2), 0.5)
    labels = torch.zeros(3, dtype=torch.long)
    perturbed = inner_attack(
        linear(), images, lambda z: F.cross_entropy(z, labels, reduction="sum"),
        norm="Linf", epsilon=0.1, steps=5, step_size=0.1, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    corner = torch.tensor([0.4, 0.6, 0.4]).expand(3, 3)
    assert torch.allclose(perturbed.flatten(1)[:, :3], corner)


def test_ascent_keeps_ball_range_and_mode():
    model = nn.Sequential(nn.BatchNorm2d(1), linear()).train()
    images = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    before = model[0].running_mean.clone()
    perturbed = inner_attack(
        model, images, lambda z: z[:, 0].sum(), norm="Linf", epsilon=0.3, steps=3, step_size=0.2,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert float((perturbed - images).abs().max()) <= 0.3 + 1e-6
    assert 0 <= float(perturbed.min()) <= float(perturbed.max()) <= 1
    assert model.training
    assert torch.equal(model[0].running_mean, before)
