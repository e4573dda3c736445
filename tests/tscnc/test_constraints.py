import math

import pytest
import torch

from tscnc_deploy.tscnc import Constraint, log_frobenius, log_kaporin


def with_singular_values(values, rows=6, columns=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(columns, columns, generator=generator, dtype=torch.float64)).Q
    return (u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v[: len(values)]).float()


def test_log_frobenius_is_the_papers_formula():
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert log_frobenius(weight, tau=1e-4).item() == pytest.approx(math.log(25.0001))


def test_log_frobenius_does_not_see_the_smallest_singular_value():
    good = with_singular_values([1.0] * 6)
    bad = with_singular_values([math.sqrt(6 - 5e-6)] + [1e-3] * 5)
    assert log_frobenius(good).item() == pytest.approx(log_frobenius(bad).item(), abs=1e-5)
    assert log_kaporin(bad).item() > log_kaporin(good).item() + 5


def test_kaporin_is_zero_for_equal_singular_values():
    assert log_kaporin(with_singular_values([2.0] * 6)).item() == pytest.approx(0, abs=1e-5)


def test_kaporin_of_known_singular_values():
    # Arithmetic mean of the squares 1 and 4 over their geometric mean: log(2.5 / 2).
    weight = torch.diag(torch.tensor([1.0, 2.0]))
    assert log_kaporin(weight, jitter=1e-9).item() == pytest.approx(math.log(1.25), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e3])
def test_kaporin_ignores_scale(scale):
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    assert log_kaporin(weight * scale).item() == pytest.approx(log_kaporin(weight).item(), rel=1e-4)


def test_kaporin_of_a_tall_and_a_wide_matrix_is_the_same():
    weight = torch.randn(12, 5, generator=torch.Generator().manual_seed(2))
    assert log_kaporin(weight).item() == pytest.approx(log_kaporin(weight.T.contiguous()).item(), rel=1e-5)


def test_kaporin_leaves_out_dead_rows_and_columns():
    core = torch.diag(torch.tensor([1.0, 2.0]))
    padded = torch.zeros(4, 7)
    padded[:2, 3:5] = core
    assert log_kaporin(padded).item() == pytest.approx(log_kaporin(core).item(), abs=1e-6)


def test_kaporin_of_an_empty_layer_is_zero_and_has_a_gradient():
    weight = torch.zeros(3, 3, requires_grad=True)
    value = log_kaporin(weight)
    value.backward()
    assert value.item() == 0
    assert weight.grad.abs().sum() == 0


def test_kaporin_of_a_rank_deficient_layer_is_finite():
    row = torch.randn(1, 64, generator=torch.Generator().manual_seed(3))
    assert math.isfinite(log_kaporin(row.repeat(32, 1), jitter=1e-6).item())


def test_descending_kaporin_lowers_kappa():
    weight = with_singular_values([5.0, 3.0, 1.0, 0.5, 0.1, 0.05]).requires_grad_()
    before = torch.linalg.cond(weight).item()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(log_kaporin(weight), weight)
        weight = (weight - 0.05 * gradient).detach().requires_grad_()
    assert torch.linalg.cond(weight).item() < before / 3


def test_gradient_matches_finite_differences():
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(4), requires_grad=True)
    (gradient,) = torch.autograd.grad(log_kaporin(weight), weight)
    step = torch.zeros_like(weight)
    step[1, 2] = 1e-2
    numeric = (log_kaporin(weight + step) - log_kaporin(weight - step)) / 2e-2
    assert gradient[1, 2].item() == pytest.approx(numeric.item(), rel=1e-2)


def test_tscnc_is_the_sum_of_both_over_layers():
    layers = [torch.randn(4, 6, generator=torch.Generator().manual_seed(s)) for s in (5, 6)]
    expected = sum(log_frobenius(w).item() + log_kaporin(w).item() for w in layers)
    assert Constraint("tscnc")(layers).item() == pytest.approx(expected, rel=1e-5)
