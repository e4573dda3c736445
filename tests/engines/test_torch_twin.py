from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.engines.nets import random_images, small_net, sums_and_differences
from tscnc_deploy.engines import Engine
from tscnc_deploy.engines.torch_twin import TwinEngine
from tscnc_deploy.errors import EngineInputError, InputError


def test_logits_that_can_be_computed_in_the_head():
    twin = TwinEngine(sums_and_differences(), (1, 2, 2), 2)
    images = np.array([[[[0.5, 0.25], [0.25, 0]]]], np.float32)
    assert twin.logits(images).tolist() == [[1.0, 10.5]]


def test_it_is_an_engine_called_twin():
    twin = TwinEngine(small_net(), (1, 8, 8), 3, batch_max=4)
    assert isinstance(twin, Engine)
    assert (twin.spec.name, twin.spec.kind, twin.spec.precision, twin.spec.provider) == ("twin", "torch", "fp32", "cpu")
    assert twin.logits(random_images(0, (1, 8, 8))).shape == (0, 3)
    assert twin.logits(random_images(9, (1, 8, 8))).shape == (9, 3)


def test_train_mode_is_refused_also_when_it_is_switched_on_later():
    model = small_net()
    model.norm.train()
    with pytest.raises(InputError, match=r"norm is in train mode; call eval\(\)"):
        TwinEngine(model, (1, 8, 8), 3)
    model.eval()
    twin = TwinEngine(model, (1, 8, 8), 3)
    model.train()
    with pytest.raises(InputError, match="SmallNet is in train mode"):
        twin.logits(random_images(1, (1, 8, 8)))


def test_it_computes_in_float32_inside_autocast_and_leaves_no_graph():
    twin = TwinEngine(small_net(), (1, 8, 8), 3)
    images = random_images(4, (1, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(twin.logits(images), TwinEngine(small_net(), (1, 8, 8), 3).logits(images))
    assert all(parameter.grad is None for parameter in small_net().parameters())


def test_other_precisions_and_devices_are_refused():
    with pytest.raises(InputError, match=r"0\.weight is torch\.bfloat16"):
        TwinEngine(sums_and_differences().bfloat16(), (1, 2, 2), 2)
    with pytest.raises(InputError, match=r"0\.weight is on cpu, not on meta"):
        TwinEngine(sums_and_differences(), (1, 2, 2), 2, device="meta")


def test_logits_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"Flatten returned torch\.float32 \[1, 4\] instead of float32 \[1, 2\]"):
        TwinEngine(nn.Flatten().eval(), (1, 2, 2), 2).logits(random_images(1, (1, 2, 2)))


def test_bad_images_are_refused():
    with pytest.raises(EngineInputError, match="divide uint8 pixels by 255"):
        TwinEngine(sums_and_differences(), (1, 2, 2), 2).logits(np.zeros((1, 1, 2, 2), np.uint8))
