from __future__ import annotations

import pytest
import torch

from tscnc_deploy.data import Dataset, Split


def dataset(images: torch.Tensor) -> Dataset:
    split = Split(images, torch.zeros(len(images), dtype=torch.int64))
    return Dataset("made", ("a", "b"), split, split, split)


def test_a_batch_of_bytes_is_divided_by_255():
    split = Split(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1), torch.tensor([4, 5, 6]))
    images, labels = split.batch(torch.tensor([2, 1]))
    assert images.dtype == torch.float32
    assert images.flatten().tolist() == pytest.approx([1.0, 0.2])
    assert labels.tolist() == [6, 5]


def test_a_batch_of_floats_is_as_it_is():
    split = Split(torch.tensor([0.25, 0.5]).reshape(2, 1, 1, 1), torch.tensor([0, 1]))
    assert split.batch(torch.tensor([1]))[0].flatten().tolist() == [0.5]


def test_its_length_is_the_number_of_images():
    split = Split(torch.rand(2, 1, 3, 3), torch.tensor([3, 0]))
    assert len(split) == 2
    assert split.to("cpu").labels.tolist() == [3, 0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_split_on_a_gpu_takes_indices_from_the_cpu():
    split = Split(torch.full((3, 1, 2, 2), 255, dtype=torch.uint8), torch.arange(3)).to("cuda")
    images, labels = split.batch(torch.tensor([1]))
    assert (images.device.type, labels.device.type) == ("cuda", "cuda")
    assert images.flatten().tolist() == [1, 1, 1, 1]


def test_channel_statistics_by_hand():
    images = torch.tensor([[[[0, 255]], [[51, 51]]], [[[0, 255]], [[102, 102]]]], dtype=torch.uint8)
    mean, std = dataset(images).channel_statistics()
    assert mean == pytest.approx((0.5, 0.3))
    assert std == pytest.approx((0.5, 0.1))


def test_a_constant_channel_reports_a_deviation_to_divide_by():
    mean, std = dataset(torch.full((5, 1, 3, 3), 0.1)).channel_statistics()
    assert mean == pytest.approx((0.1,))
    assert std == (1.0,)


def test_input_shape():
    assert dataset(torch.zeros(2, 3, 4, 5)).input_shape == (3, 4, 5)
