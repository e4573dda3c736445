from __future__ import annotations

import numpy as np
import pytest

from tests.engines.onnx.differentiable.cases import (
    Case,
    check_gradient,
    check_values,
    examples,
    few_and_many,
    floats,
    int64,
    some,
    whole,
)

TRANSFORMS = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def _resize(r):
    opset, mode = r.choice([11, 13, 18, 19]), r.choice(["nearest", "linear", "cubic"])
    shape = [r.choice([1, 2, 5]), r.randint(1, 2), r.randint(2, 6), r.randint(2, 6)]
    attributes = {"mode": mode, **some(r, coordinate_transformation_mode=r.choice(TRANSFORMS))}
    if opset < 19 and attributes.get("coordinate_transformation_mode") == "half_pixel_symmetric":
        opset = 19
    if mode == "nearest":
        attributes |= some(r, nearest_mode=r.choice(NEAREST))
    if mode == "cubic":
        attributes |= some(r, cubic_coeff_a=-0.5, exclude_outside=r.choice([0, 1]))
    if opset >= 18 and mode != "nearest" and attributes.get("coordinate_transformation_mode") != "align_corners":
        attributes |= some(r, antialias=r.choice([0, 1]))
    x = floats(r, *shape)
    after = [shape[0], shape[1], r.randint(1, 9), r.randint(1, 9)]
    if opset >= 18 and r.random() < 0.4:
        attributes["axes"] = r.choice([[2, 3], [3, 2], [-2, -1]])
        after = [after[axis] for axis in attributes["axes"]]
    if r.random() < 0.5:
        axes = attributes.get("axes", [0, 1, 2, 3])
        scales = np.float32([1 if axis in (0, 1) else r.choice([0.4, 0.5, 1, 1.5, 2, 2.7]) for axis in axes])
        return Case("Resize", [x, None if opset > 11 else np.float32([]), scales], attributes, opset)
    if "axes" in attributes and r.random() < 0.5:
        attributes["axes"] = [axis % 4 for axis in attributes["axes"]]  # onnxruntime ignores negative ones here
        attributes["keep_aspect_ratio_policy"] = r.choice(["stretch", "not_larger", "not_smaller"])
    empty = None if opset > 11 else np.float32([])
    return Case("Resize", [x, empty, empty, int64(*after)], attributes, opset)


def _cropped(r):
    """tf_crop_and_resize takes a region, and fills what lies beyond the image."""
    attributes = {
        "mode": r.choice(["nearest", "linear", "cubic"]),
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "nearest_mode": "floor",
        **some(r, extrapolation_value=3.0),
    }
    roi = np.float32([0, 0, r.choice([0.043, 0.217, -0.31]), 0.11, 1, 1, r.choice([0.953, 0.71, 1.43]), 0.87])
    size = int64(1, 2, r.randint(1, 7), r.randint(1, 7))
    return Case("Resize", [floats(r, 1, 2, 5, 4), roi, None, size], attributes, 13)


def _older(op):
    def make(r):
        opset = 10 if op == "Resize" else 9
        mode = r.choice(["nearest", "linear"])
        scales = np.float32([1, 1, r.choice([0.5, 1, 2, 2.5]), r.choice([0.5, 1, 2, 3])])
        if op == "Upsample":
            scales = np.maximum(scales, 1)
        return Case(op, [floats(r, 2, 2, r.randint(2, 5), r.randint(2, 5)), scales], {"mode": mode}, opset)

    return make


def _of_integers(r):
    x = whole(r, 1, 2, 4, 4, low=0, high=9, dtype=np.int32)
    return Case("Resize", [x, None, np.float32([1, 1, 2, 2])], {"mode": "nearest"}, 13)


CASES = {"Resize": _resize, "Upsample": _older("Upsample")}
MORE = {"cropped": _cropped, "opset 10": _older("Resize"), "integers": _of_integers}


@few_and_many(4, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 30)
@pytest.mark.parametrize("kind", MORE)
def test_rarer_forms_have_the_values_of_onnxruntime(kind, count):
    examples(MORE[kind], check_values, count)


@few_and_many(1, 30)
@pytest.mark.parametrize("op", CASES)
def test_gradients_are_those_of_finite_differences(op, count):
    examples(CASES[op], check_gradient, count)
