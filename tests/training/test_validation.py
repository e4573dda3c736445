import pytest
import torch

from tests.training.nets import linear
from tscnc_deploy.data import Split
from tscnc_deploy.training.validation import Validation, validate


@pytest.mark.parametrize(("norm", "epsilon", "length"), [("Linf", 0.2, 4.0), ("L2", 0.36, 6.0**0.5)])
def test_validation_of_a_linear_model_counts_what_is_out_of_reach(norm, epsilon, length):
    shades = torch.linspace(0.3, 0.6, 20)
    images = shades[:, None, None, None].expand(20, 1, 2, 2)
    # The lead of class 0 is x0 - x1 + 2 x2, twice the shade, and falls by the dual norm of its weight.
    expected = (2 * shades > length * epsilon).float().mean().item()
    result = validate(
        linear(), linear(), Split(images, torch.zeros(20, dtype=torch.int64)), norm=norm, epsilon=epsilon, steps=10,
        batch_size=7, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert result.clean == 1.0
    assert 0 < expected < 1
    assert result.robust == pytest.approx(expected)


def test_validation_prefers_robust_accuracy_then_a_low_loss():
    assert Validation(0.9, 0.5, 1.0).better_than(None)
    assert Validation(0.8, 0.6, 2.0).better_than(Validation(0.9, 0.5, 1.0))
    assert Validation(0.8, 0.5, 0.9).better_than(Validation(0.9, 0.5, 1.0))
    assert not Validation(0.9, 0.5, 1.0).better_than(Validation(0.9, 0.5, 1.0))
