from __future__ import annotations

import pytest
import torch

from tscnc_deploy.errors import DataError, InputError
from tscnc_deploy.recipe.file import load_recipe
from tscnc_deploy.verify import IOSpec, check_fit, draw_images, evaluation_images


def test_all_test_images(recipe, digits):
    images, labels, classes = evaluation_images(recipe, None, 0)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.shape == (len(digits.test), 1, 8, 8)
    assert 0 <= images.min() < images.max() <= 1
    assert classes == tuple("0123456789")


def test_some_of_them_with_the_same_share_of_each_class(digits):
    images, labels, _ = draw_images(digits, 100, seed=0)
    assert set(labels.bincount().tolist()) <= {9, 10, 11}
    again, other = (draw_images(digits, 100, seed) for seed in (0, 1))
    assert again.images.equal(images)
    assert not other.images.equal(images)


def test_they_are_resized_as_the_recipe_says():
    images, _, _ = evaluation_images(load_recipe("digits", ["data.image_size=12"]), 5, 0)
    assert images.shape == (5, 1, 12, 12)


@pytest.mark.parametrize("samples", [0, 361])
def test_more_than_there_are_are_refused(recipe, digits, samples):
    assert len(digits.test) == 360
    with pytest.raises(InputError, match=f"--samples {samples}: digits has only 360 test images"):
        evaluation_images(recipe, samples, 0)


def test_missing_data_are_refused():
    with pytest.raises(DataError, match="folder not found"):
        evaluation_images(load_recipe("images", ["data.root=nowhere", "data.dataset=imagefolder"]), None, 0)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            IOSpec((1, 32, 32), 2),
            r"cats takes images \[1, 32, 32\] .* are \[1, 8, 8\]; --set data.image_size=32 resizes",
        ),
        (IOSpec((3, 8, 8), 2), "use images with 3 channels"),
        (IOSpec((1, 8, 9), 2), "resizes images to squares only"),
        (IOSpec((1, 8, 8), 1000), "cats gives 1000 logits, but the data set has 2 classes; --labels says what each"),
    ],
)
def test_images_that_do_not_fit_the_model_are_refused(form, message):
    check_fit("cats", IOSpec((1, 8, 8), 2), (1, 8, 8), ("cat", "dog"))
    with pytest.raises(InputError, match=message):
        check_fit("cats", form, (1, 8, 8), ("cat", "dog"))
