from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from tscnc_deploy.pixels import to_unit_range

PIXELS = np.arange(256, dtype=np.uint8)


def test_every_value_is_the_float32_nearest_to_the_quotient():
    for pixel, value in enumerate(to_unit_range(PIXELS)):
        exact = Fraction(pixel, 255)
        neighbours = [np.nextafter(value, end, dtype=np.float32) for end in (np.float32(-1), np.float32(2))]
        assert abs(Fraction(float(value)) - exact) < min(abs(Fraction(float(other)) - exact) for other in neighbours)


def test_some_values_as_bits():
    bits = to_unit_range(np.array([0, 1, 51, 127, 255], np.uint8)).view(np.uint32)
    assert [hex(value) for value in bits] == ["0x0", "0x3b808081", "0x3e4ccccd", "0x3efefeff", "0x3f800000"]


def test_tensors_get_the_bits_of_arrays():
    images = to_unit_range(torch.from_numpy(PIXELS).reshape(1, 4, 8, 8))
    assert images.dtype == torch.float32
    assert images.shape == (1, 4, 8, 8)
    assert images.numpy().tobytes() == to_unit_range(PIXELS).tobytes()


@pytest.mark.gpu
def test_tensors_on_a_gpu_get_the_bits_of_arrays():
    images = to_unit_range(torch.from_numpy(PIXELS).cuda())
    assert images.cpu().numpy().tobytes() == to_unit_range(PIXELS).tobytes()


def test_the_server_needs_no_torch_for_it():
    code = (
        "import sys, numpy; from tscnc_deploy.pixels import to_unit_range; to_unit_range(numpy.zeros(1, 'u1'));"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
