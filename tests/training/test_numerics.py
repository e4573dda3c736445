import pytest
import torch

from tscnc_deploy.recipe import Train
from tscnc_deploy.training.numerics import Numerics


@pytest.mark.parametrize(
    ("settings", "side", "bf16", "memory_format"),
    [
        ({}, 8, False, torch.contiguous_format),
        ({}, 32, False, torch.channels_last),
        ({"precision": "bf16"}, 8, True, torch.channels_last),
        ({"precision": "bf16", "channels_last": False}, 8, True, torch.contiguous_format),
    ],
)
def test_auto_on_a_cpu(settings, side, bf16, memory_format):
    numerics = Numerics.choose(Train(**settings), torch.device("cpu"), (1, side, side))
    assert (numerics.bf16, numerics.memory_format) == (bf16, memory_format)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_auto_is_bf16_and_channels_last_on_a_gpu():
    numerics = Numerics.choose(Train(), torch.device("cuda"), (1, 8, 8))
    assert (numerics.bf16, numerics.memory_format) == (torch.cuda.is_bf16_supported(), torch.channels_last)
