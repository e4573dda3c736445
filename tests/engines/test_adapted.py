import numpy as np
import pytest

from tscnc_deploy.engines.adapted import AdaptedEngine
from tscnc_deploy.engines.base import CheckedEngine, EngineSpec
from tscnc_deploy.errors import EngineInputError, InputError


class Means(CheckedEngine):
    """Logits 1, 2 and 3 times the mean of the image."""

    def __init__(self):
        super().__init__(EngineSpec("means", "test", (1, 2, 2), 3, "fp32", "cpu", batch_max=2))

    def _run(self, images):
        return images.mean(axis=(1, 2, 3))[:, None] * np.array([1, 2, 3], np.float32)


def adapted(**changes):
    return AdaptedEngine(Means(), **({"mean": (0.5,), "std": (0.25,)} | changes))


def test_images_are_normalised_on_the_way_in():
    images = np.stack([np.zeros((1, 2, 2)), np.full((1, 2, 2), 0.75), np.ones((1, 2, 2))]).astype(np.float32)
    assert adapted().logits(images).tolist() == [[-2, -4, -6], [1, 2, 3], [2, 4, 6]]


def test_classes_come_in_the_order_of_the_data_set():
    engine = adapted(order=(2, 0))
    assert engine.spec.classes == 2
    assert engine.logits(np.ones((1, 1, 2, 2), np.float32)).tolist() == [[6, 2]]


def test_images_outside_the_range_are_still_refused():
    with pytest.raises(EngineInputError, match=r"\[0, 1\]"):
        adapted().logits(np.full((1, 1, 2, 2), 2, np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.1, 0.2)}, "--mean has 2 values"),
        ({"std": (0.0,)}, "standard deviations must be above 0"),
        ({"order": (0, 3)}, "is not among"),
        ({"order": (1, 1)}, "one twice"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        adapted(**changes)
