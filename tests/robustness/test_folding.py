"""Folded networks: the same logits from less work, or the network as it is."""

import pytest
import torch
from torch import nn

from tscnc_deploy import models
from tscnc_deploy.robustness import PGD, EOTVictim, ModelVictim, Threat, evaluate
from tscnc_deploy.robustness.folding import folded


def trained_statistics(module):
    """Statistics of batch norm that are not the ones of a fresh network."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.5, 0.5, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    return module.eval()


def norms(victim):
    return sum(isinstance(part, nn.BatchNorm2d) for part in victim.module.modules())


@pytest.mark.parametrize(
    ("arch", "left"), [("resnet18", 0), ("resnet50", 0), ("vgg16", 0), ("wrn28-10", 13), ("mobilenetv2", 0)]
)
def test_batch_norm_after_a_convolution_is_gone(arch, left):
    model = models.build(
        arch,
        classes=4,
        input_shape=(3, 8, 8),
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        width=0.125 if "wrn" not in arch else 0.1,
    )
    victim = ModelVictim(trained_statistics(model))
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    light = folded(victim, images)
    assert norms(light) == left
    assert torch.allclose(light.logits(images), victim.logits(images), rtol=1e-4, atol=1e-5)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_what_cannot_be_folded_is_attacked_as_it_is():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

        def forward(self, images):
            features = self.norm(self.convolution(images)).mean((2, 3))
            return features if images.sum() > 0 else -features

    images = torch.rand(3, 1, 8, 8)
    victim = ModelVictim(Branching().eval())
    assert folded(victim, images) is victim
    plain = ModelVictim(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval())
    assert folded(plain, images) is plain
    randomised = EOTVictim(victim, 2)
    assert folded(randomised, images) is randomised


def test_another_function_is_not_taken_for_the_same():
    calls = []

    class Counting(nn.Module):
        """Tracing makes a constant of what changes with every call."""

        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

        def forward(self, images):
            calls.append(1)
            return self.norm(self.convolution(images)).mean((2, 3)) * len(calls)

    victim = ModelVictim(Counting().eval())
    assert folded(victim, torch.rand(3, 1, 8, 8)) is victim


def test_the_network_itself_is_the_judge():
    model = models.build("resnet18", classes=3, input_shape=(1, 8, 8), mean=(0.5,), std=(0.3,), width=0.125)
    victim = ModelVictim(trained_statistics(model))
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = victim.logits(images).argmax(1)
    result = evaluate(victim, images, labels, Threat(epsilon=0.1), [PGD(5)])
    assert torch.equal(result.robust_mask, victim.logits(result.adversarial).argmax(1) == labels)
    assert result.queries == {"clean": 20, "pgd-5": 20 + 20 * 6}


def test_a_network_that_changes_is_not_attacked_as_it_was():
    """Its copy is kept between evaluations, which are often in many parts."""
    model = trained_statistics(
        models.build("resnet18", classes=4, input_shape=(1, 8, 8), mean=(0.5,), std=(0.5,), width=0.125)
    )
    images = torch.rand(8, 1, 8, 8)
    first = folded(ModelVictim(model), images)
    assert folded(ModelVictim(model), images).module is first.module
    with torch.no_grad():
        for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.running_mean += 0.1
    changed = folded(ModelVictim(model), images)
    assert changed.module is not model
    assert torch.allclose(changed.logits(images), ModelVictim(model).logits(images), atol=1e-4)
    last = next(part for part in model.modules() if isinstance(part, nn.Linear))
    last.weight = nn.Parameter(-last.weight.detach())
    other = folded(ModelVictim(model), images)
    assert other.module is not first.module
    assert torch.allclose(other.logits(images), ModelVictim(model).logits(images), atol=1e-4)
