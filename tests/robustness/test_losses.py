from __future__ import annotations

import torch
from torch.nn import functional as F

from tscnc_deploy.robustness.losses import cross_entropy, dlr, is_misclassified, margin, targeted_dlr


def test_margin_is_the_best_other_logit_minus_the_own():
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    assert margin(logits, torch.tensor([0, 1])).tolist() == [-1.0, 2.0]
    assert logits.tolist() == [[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]


def test_a_tie_goes_to_the_first_class():
    logits = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert is_misclassified(logits, torch.tensor([0, 1])).tolist() == [False, True]


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


def test_dlr_is_the_margin_over_the_gap_to_the_third_logit():
    logits = torch.tensor([[5.0, 1.0, 3.0, 0.0]] * 3)
    torch.testing.assert_close(dlr(logits, torch.tensor([0, 2, 3])), torch.tensor([-0.5, 0.5, 1.25]))


def test_targeted_dlr_looks_at_the_target_and_the_third_and_fourth_logit():
    logits = torch.tensor([[5.0, 1.0, 3.0, 0.0, -9.0]] * 2)
    found = targeted_dlr(logits, torch.tensor([0, 0]), torch.tensor([2, 4]))
    torch.testing.assert_close(found, torch.tensor([-2.0, -14.0]) / 4.5)


def test_neither_scale_nor_shift_of_the_logits_changes_dlr():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 6, generator=generator)
    labels, targets = (torch.randint(6, (20,), generator=generator) for _ in range(2))
    torch.testing.assert_close(dlr(1e4 * logits + 7, labels), dlr(logits, labels), rtol=1e-3, atol=1e-5)
    moved, still = (targeted_dlr(values, labels, targets) for values in (1e4 * logits + 7, logits))
    torch.testing.assert_close(moved, still, rtol=1e-3, atol=1e-5)


def test_with_three_classes_there_is_no_gap_to_divide_by():
    logits, labels = torch.tensor([[5.0, 1.0, 3.0]]), torch.tensor([0])
    assert dlr(logits, labels).tolist() == [-2.0]
    assert targeted_dlr(logits, labels, torch.tensor([1])).tolist() == [-4.0]


def test_equal_logits_give_no_infinite_ratio():
    logits, labels = torch.zeros(1, 5), torch.tensor([0])
    assert dlr(logits, labels).tolist() == targeted_dlr(logits, labels, torch.tensor([1])).tolist() == [0.0]
