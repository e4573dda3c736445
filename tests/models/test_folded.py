"""Copies for attacks: the function of the network in eval mode, whatever happens to its weights."""

import pytest
import torch
from torch import nn

from tscnc_deploy import models
from tscnc_deploy.models.folded import FoldedCopy


def network(arch):
    width = 0.125 if "wrn" not in arch else 0.1
    return models.build(arch, classes=4, input_shape=(3, 8, 8), mean=(0.5,) * 3, std=(0.2,) * 3, width=width)


def images(count=6):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def train_a_little(model):
    """Changes weights and statistics, in train mode."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model.train()(images()).logsumexp(1).mean().backward()
        optimizer.step()


def logits_and_gradient(model, points):
    points = points.clone().requires_grad_()
    logits = model(points)
    return logits.detach(), torch.autograd.grad(logits.logsumexp(1).sum(), points)[0]


@pytest.mark.parametrize(
    ("arch", "folds"),
    [("resnet18", 20), ("resnet50", 53), ("vgg16", 13), ("wrn28-10", 12), ("mobilenetv2", 52), ("vit-tiny", 0)],
)
def test_the_copy_follows_its_network_in_training(arch, folds):
    model = network(arch)
    twin = FoldedCopy(model)
    assert twin.folds == folds
    for _ in range(2):
        train_a_little(model)
        found = logits_and_gradient(twin.refreshed(), images())
        assert model.training
        for value, expected in zip(found, logits_and_gradient(model.eval(), images()), strict=True):
            assert (value - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_copy_trains_nothing_and_changes_nothing():
    model = network("wrn28-10")
    train_a_little(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin = FoldedCopy(model)
    logits_and_gradient(twin.refreshed(), images())
    assert not any(p.requires_grad for p in twin.network.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_in_bfloat16_all_convolutions_and_linear_layers_are_cast():
    model = network("resnet18")
    train_a_little(model)
    twin = FoldedCopy(model, torch.bfloat16)
    weights = {p.dtype for name, p in twin.network.named_parameters() if name.endswith("weight")}
    assert weights == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = twin.refreshed()(images()).float()
    with torch.no_grad():
        expected = model.eval()(images())
    assert (found - expected).abs().max() <= 0.03 * expected.abs().max()


def test_a_convolution_without_batch_norm_and_one_that_is_called_twice_stay():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.first, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.last = nn.Conv2d(3, 2, 8)

        def forward(self, x):
            return self.last(self.second(self.shared(self.first(self.shared(x))))).flatten(1)

    model = Twice()
    twin = FoldedCopy(model)
    train_a_little(model)
    assert twin.folds == 0
    assert torch.equal(twin.refreshed()(images()), model.eval()(images()))


def test_a_network_that_cannot_be_traced_is_shared_as_a_whole():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            features = self.norm(self.convolution(x)).mean((2, 3))
            return features if x.sum() > 0 else -features

    model = Branching()
    twin = FoldedCopy(model)
    train_a_little(model)
    assert twin.folds == 0
    assert torch.equal(twin.refreshed()(images()), model.eval()(images()))
    assert not twin.network.training


def test_a_network_that_cannot_be_run_with_proxies_is_not_folded():
    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found = nn.AdaptiveAvgPool2d((1, 2))(self.norm(self.convolution(images)))
            return {4: found}[found.shape[1]].flatten(1)

    model = Made().eval()
    copy = FoldedCopy(model, input_shape=(1, 6, 6))
    images = torch.rand(2, 1, 6, 6)
    assert copy.folds == 0
    assert copy.refreshed()(images).equal(model(images))


def test_a_copy_that_computes_something_else_is_not_used():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found = self.norm(self.convolution(images))
            return -found if isinstance(images, torch.fx.Proxy) else found

    assert FoldedCopy(Branching().eval(), input_shape=(1, 6, 6)).folds == 0
