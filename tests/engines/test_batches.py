from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest

from tests.engines.nets import random_images
from tscnc_deploy.engines.base import EngineSpec
from tscnc_deploy.engines.batches import batch_dependence, require_independent, sample_images, tolerance_for
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.errors import InputError

SHAPE = (1, 4, 4)
WEIGHT = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)


def honest(images):
    return images.reshape(len(images), 16) @ WEIGHT


def negated_alone(images):
    return honest(images) * (-1 if len(images) == 1 else 1)


def without_the_mean(images):
    return honest(images - images.mean(0))


def first_place_is_different(images):
    logits = honest(images).copy()
    logits[0] *= -1
    return logits


def last_of_many_is_different(images):
    logits = honest(images).copy()
    logits[31:] *= -1
    return logits


def many_are_different(images):
    return honest(images) * (-1 if len(images) > 20 else 1)


def odd_sizes_are_different(images):
    return honest(images) + (0.5 if len(images) % 2 and len(images) > 1 else 0)


def not_finite_together(images):
    return honest(images) * (np.inf if len(images) > 1 else 1)


def one_row_too_few(images):
    return honest(images)[:-1] if len(images) == 7 else honest(images)


def a_huge_logit_hides_it(images):
    logits = honest(images) * (-1 if len(images) > 1 else 1)
    logits[:, 2] = -1e7
    return logits


def asked(classify, images=None, **options):
    images = random_images(40, SHAPE) if images is None else images
    return batch_dependence(classify, images, **({"largest": 32, "tolerance": 1e-4} | options))


def test_an_engine_that_treats_images_alone_is_found_to():
    assert asked(honest) is None
    assert asked(honest, largest=1) is None
    assert asked(honest, random_images(1, SHAPE)) is None


@pytest.mark.parametrize(
    ("classify", "how"),
    [
        (negated_alone, "among 2 differs from that to the image alone by "),
        (without_the_mean, "among 2 differs from that to the image alone by "),
        (last_of_many_is_different, "among 32 differs from that to the image alone by "),
        (odd_sizes_are_different, "among 3 differs from that to the image alone by "),
        (not_finite_together, "among 2 differs from that to the image alone by values that are not finite"),
        (one_row_too_few, "among 7 "),
        (a_huge_logit_hides_it, "differs from that to the image alone in its label"),
    ],
)
def test_a_dependence_is_found(classify, how):
    if classify is one_row_too_few:
        with pytest.raises(IndexError):  # victims and engines refuse it themselves
            asked(classify)
        return
    assert how in asked(classify)


@pytest.mark.parametrize("classify", [first_place_is_different, many_are_different])
def test_a_dependence_on_place_and_size_is_found(classify):
    assert "the largest logit, more than 0.0001" in asked(classify)


def test_sizes_between_are_drawn_by_the_seed():
    seen = {}
    for seed in (0, 1):
        sizes = seen.setdefault(seed, [])
        asked(lambda images, sizes=sizes: (sizes.append(len(images)), honest(images))[1], largest=200, seed=seed)
    for sizes in seen.values():
        assert sizes[:24] == [1] * 24
        assert {2, 3, 7, 200, 40} <= set(sizes)  # 40: as many different images as there are
    assert set(seen[0]) != set(seen[1])
    assert sum(seen[0]) < 1000


def test_large_images_are_asked_about_in_smaller_batches():
    sizes = []
    images = np.zeros((2, 1, 4096, 1024), np.float32)
    asked(lambda part: (sizes.append(len(part)), np.ones((len(part), 2), np.float32))[1], images, largest=256)
    assert max(sizes) == 4


@dataclass
class Engine:
    spec: EngineSpec
    logits: object


def test_the_refusal_names_the_engine():
    spec = EngineSpec("fast", "onnxruntime", SHAPE, 3, "fp32", "CPUExecutionProvider", batch_max=16)
    require_independent(Engine(spec, honest), random_images(8, SHAPE))
    with pytest.raises(InputError, match=r"^the engine fast depends on the other images of the batch: its answer "):
        require_independent(Engine(spec, negated_alone), random_images(8, SHAPE))


def test_tolerances_are_those_of_the_precision():
    assert [tolerance_for(name) for name in ("fp32", "fp16", "int8", "unknown")] == [1e-4, 0.02, 0.02, 0.02]


def test_a_real_engine_is_independent(small_files):
    engine = OnnxRuntimeEngine(small_files.model)
    require_independent(engine, sample_images(engine.spec.input_shape))


def test_images_to_ask_about_differ_in_brightness():
    images = sample_images((3, 5, 7))
    assert images.shape == (48, 3, 5, 7)
    assert images.dtype == np.float32
    assert 0 <= images.min() < 0.1 < 0.9 < images.max() <= 1
    assert images.mean((1, 2, 3)).std() > 0.1


@pytest.mark.parametrize("classify", [honest, negated_alone, without_the_mean])
def test_a_slow_engine_is_asked_little_but_asked(classify):
    asked = []

    def slowly(images):
        asked.append(len(images))
        time.sleep(0.01 * len(images))
        return classify(images)

    found = batch_dependence(slowly, random_images(100, SHAPE), largest=64, tolerance=1e-4, seconds=0.005)
    assert asked == [1, 1, 2]
    assert (found is None) == (classify is honest)
