from __future__ import annotations

import numpy as np
import pytest

from tests.engines.nets import random_images
from tscnc_deploy.engines.base import CheckedEngine, EngineSpec, check_images
from tscnc_deploy.errors import EngineInputError


class _Counting(CheckedEngine):
    """Gives each image's mean; remembers the batches that it was given."""

    def __init__(self, batch_min, batch_max):
        super().__init__(EngineSpec("x", "test", (1, 2, 2), 1, "fp32", "cpu", batch_min, batch_max))
        self.batches = []

    def _run(self, images):
        self.batches.append(len(images))
        return images.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize(("count", "batches"), [(0, []), (1, [2]), (2, [2]), (4, [4]), (5, [4, 2]), (10, [4, 4, 2])])
def test_batches_are_split_and_padded_to_what_the_artefact_takes(count, batches):
    engine = _Counting(batch_min=2, batch_max=4)
    images = random_images(count, (1, 2, 2))
    logits = engine.logits(images)
    assert engine.batches == batches
    assert (logits.shape, logits.dtype) == ((count, 1), np.float32)
    np.testing.assert_array_equal(logits[:, 0], images.mean((1, 2, 3)))


def _images(value=0.5, shape=(2, 1, 2, 2), dtype=np.float32):
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[0.5]], "must be a float32 numpy array, not list"),
        (_images(dtype=np.float64), "must be float32, not float64"),
        (_images(255, dtype=np.uint8), "must be float32, not uint8; divide uint8 pixels by 255 first"),
        (_images(shape=(1, 2, 2)), r"must have the shape \[N, 1, 2, 2\], not \[1, 2, 2\]"),
        (_images(shape=(2, 2, 2, 1)), r"must have the shape \[N, 1, 2, 2\], not \[2, 2, 2, 1\]"),
        (_images(float("nan")), r"must lie in \[0, 1\]: the value at \[0, 0, 0, 0\] is nan"),
        (_images(float("inf")), "is inf"),
        (_images(1.0001), "is 1.0001"),
        (_images(-0.5), "is -0.5"),
    ],
)
def test_bad_images_are_refused(images, message):
    with pytest.raises(EngineInputError, match=message):
        check_images(images, (1, 2, 2))


def test_the_first_bad_value_is_named():
    images = _images()
    images[1, 0, 1, 0] = 2
    with pytest.raises(EngineInputError, match=r"the value at \[1, 0, 1, 0\] is 2\.0"):
        check_images(images, (1, 2, 2))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_ends_of_the_range_are_allowed(value):
    assert check_images(_images(value), (1, 2, 2)).max() == value
