from __future__ import annotations

import torch
from torch.nn import functional as F

from tscnc_deploy.robustness.losses import cross_entropy, margin, misclassified


def test_margin_is_the_best_other_logit_minus_the_own():
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    assert margin(logits, torch.tensor([0, 1])).tolist() == [-1.0, 2.0]
    assert logits.tolist() == [[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]


def test_a_tie_goes_to_the_first_class():
    logits = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert misclassified(logits, torch.tensor([0, 1])).tolist() == [False, True]


def test_cross_entropy_is_the_usual_one_with_the_usual_gradient():
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(50, 7, generator=generator)).requires_grad_()
    labels = torch.randint(7, (50,), generator=generator)
    mine, usual = cross_entropy(logits, labels), F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(mine, usual)
    (first,), (second,) = (torch.autograd.grad(loss.sum(), logits) for loss in (mine, usual))
    torch.testing.assert_close(first, second)


def test_gradient_of_a_confident_logit_keeps_its_direction():
    logits = torch.tensor([[60.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([0])).sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[-8.7565e-27, 8.7565e-27]]), rtol=1e-4, atol=0)
