import torch

from tscnc_deploy.seeds import derive_generator, derive_seed


def test_seeds_differ_by_purpose_and_repeat():
    assert derive_seed(0, "train", 1) == derive_seed(0, "train", 1)
    assert len({derive_seed(0, "train", 1), derive_seed(0, "train", 2), derive_seed(1, "train", 1)}) == 3
    first, second = (torch.rand(3, generator=derive_generator(5, "x")) for _ in range(2))
    assert torch.equal(first, second)
