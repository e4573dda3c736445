from __future__ import annotations

import torch
from scipy.stats import kstest

from tscnc_deploy.robustness.noise import Noise, gaussian


def test_numbers_are_standard_normal_and_uncorrelated():
    numbers = gaussian(Noise(0, torch.arange(300), "test"), 0, (401,))
    assert numbers.shape == (300, 401)
    assert numbers.dtype == torch.float32
    assert numbers.isfinite().all()
    assert kstest(numbers.flatten().double().numpy(), "norm").pvalue > 0.01
    # The two numbers that one pair of uniform numbers gives are 201 apart.
    pairs = torch.stack([numbers[:, :200].flatten(), numbers[:, 201:].flatten()])
    assert abs(torch.corrcoef(pairs)[0, 1]) < 0.012


def test_numbers_of_an_image_do_not_depend_on_its_batch():
    everything = gaussian(Noise(7, torch.arange(10), "x"), 2, (3, 5))
    alone = gaussian(Noise(7, torch.tensor([4]), "x"), 2, (3, 5))
    assert torch.equal(everything[4:5], alone)
    assert not torch.equal(everything[3:4], alone)
