from __future__ import annotations

import torch
from scipy.stats import chisquare, kstest

from tscnc_deploy.robustness.noise import _GOLDEN, Noise, _mix, _signed, gaussian


def test_hash_is_splitmix64():
    # The first outputs of the reference generator (Vigna, splitmix64.c) from the state 0.
    states = torch.tensor([_signed(_GOLDEN * step) for step in (1, 2, 3)])
    assert [value % 2**64 for value in _mix(states).tolist()] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_uniform_numbers_are_uniform_in_0_to_1():
    numbers = Noise(0, torch.arange(200), "test").uniform(0, (500,))
    assert numbers.shape == (200, 500)
    assert numbers.dtype == torch.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert kstest(numbers.flatten().numpy(), "uniform").pvalue > 0.01


def test_integers_are_uniform_below_their_size():
    sizes = torch.tensor([2, 7, 1])
    numbers = Noise(3, torch.arange(20_000), "test").integers(5, sizes)
    assert numbers[:, 2].unique().tolist() == [0]
    for column, size in ((0, 2), (1, 7)):
        counts = torch.bincount(numbers[:, column])
        assert len(counts) == size
        assert chisquare(counts.numpy()).pvalue > 0.01


def test_neighbouring_images_counters_streams_seeds_and_positions_are_uncorrelated():
    rows = torch.arange(4000)
    base = Noise(0, rows, "a").uniform(0, (2,))
    others = [
        Noise(0, rows + 1, "a").uniform(0, (2,))[:, 0],
        Noise(0, rows, "a").uniform(1, (2,))[:, 0],
        Noise(0, rows, "b").uniform(0, (2,))[:, 0],
        Noise(1, rows, "a").uniform(0, (2,))[:, 0],
        base[:, 1],
    ]
    for other in others:
        correlation = torch.corrcoef(torch.stack([base[:, 0], other]))[0, 1]
        assert abs(correlation) < 0.05  # three standard errors of 4000 independent pairs
        assert not torch.equal(base[:, 0], other)


def test_numbers_of_an_image_do_not_depend_on_its_batch():
    everything = Noise(7, torch.arange(10), "x").uniform(2, (3, 2))
    alone = Noise(7, torch.tensor([4]), "x").uniform(2, (3, 2))
    shuffled = Noise(7, torch.tensor([9, 4, 0]), "x")
    assert torch.equal(everything[4:5], alone)
    assert torch.equal(shuffled.uniform(2, (3, 2)), everything[[9, 4, 0]])
    assert torch.equal(shuffled.select(torch.tensor([1])).uniform(2, (3, 2)), alone)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    Noise(0, torch.arange(3), "x").uniform(0, (8,))
    assert torch.equal(before, torch.get_rng_state())


def test_gaussian_numbers_are_standard_normal_and_uncorrelated():
    numbers = gaussian(Noise(0, torch.arange(300), "test"), 0, (401,))
    assert numbers.shape == (300, 401)
    assert numbers.dtype == torch.float32
    assert numbers.isfinite().all()
    assert kstest(numbers.flatten().double().numpy(), "norm").pvalue > 0.01
    # The two numbers that one pair of uniform numbers gives are 201 apart.
    pairs = torch.stack([numbers[:, :200].flatten(), numbers[:, 201:].flatten()])
    assert abs(torch.corrcoef(pairs)[0, 1]) < 0.012


def test_gaussian_numbers_of_an_image_do_not_depend_on_its_batch():
    everything = gaussian(Noise(7, torch.arange(10), "x"), 2, (3, 5))
    alone = gaussian(Noise(7, torch.tensor([4]), "x"), 2, (3, 5))
    torch.testing.assert_close(everything[4:5], alone, rtol=0, atol=1e-6)
    assert not torch.allclose(everything[3:4], alone, rtol=0, atol=1e-2)
