from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tscnc_deploy.engines.onnx.attention import plain_attention


@pytest.mark.parametrize("shape", [(2, 3, 5, 8), (2, 4, 3, 5, 8)])
@pytest.mark.parametrize(
    ("mask", "options"),
    # PyTorch takes a mask or causality, not both.
    [(None, {"is_causal": True}), *((mask, o) for mask in (None, "added", "kept") for o in ({}, {"scale": 0.3}))],
)
def test_values_are_those_of_pytorch(shape, mask, options):
    torch.manual_seed(0)
    given = [torch.rand(shape) for _ in range(3)]
    masks = {None: None, "added": torch.rand(5, 5), "kept": torch.rand(5, 5) < 0.7}
    masks["kept"][:, 0] = True
    expected = F.scaled_dot_product_attention(*given, masks[mask], **options)
    original = F.scaled_dot_product_attention
    with plain_attention():
        assert F.scaled_dot_product_attention is not original
        found = F.scaled_dot_product_attention(*given, masks[mask], **options)
    assert F.scaled_dot_product_attention is original
    assert torch.allclose(found, expected, atol=1e-6)
