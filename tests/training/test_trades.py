import pytest
import torch
from torch.nn import functional as F

from tests.training.nets import linear
from tscnc_deploy.training.trades import Adversary, trades_loss


def test_trades_without_epsilon_is_cross_entropy():
    images, labels = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    model = linear()
    loss = trades_loss(model, model.eval, images, labels, Adversary(0, 0, 1, 1), torch.Generator())
    assert loss.item() == pytest.approx(F.cross_entropy(model(images), labels).item())


def test_trades_adds_beta_times_the_divergence():
    images, labels = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1, 0, 1])
    losses = [
        trades_loss(
            linear(), linear, images, labels, Adversary(0.2, beta, 3, 0.5), torch.Generator().manual_seed(0)
        ).item()
        for beta in (0.0, 1.0, 6.0)
    ]
    assert losses[1] > losses[0]
    assert (losses[2] - losses[0]) == pytest.approx(6 * (losses[1] - losses[0]), rel=1e-4)
