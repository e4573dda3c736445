from __future__ import annotations

from random import Random

import pytest

from tests.engines.onnx.differentiable.cases import Case, check_gradient, check_values, examples, few_and_many, floats


def windows(r, spatial, kernel, size, *, dilated=True):
    """Attributes under which at least one window fits, in every way to give the padding."""
    dilations = [r.randint(1, 2) if dilated else 1 for _ in range(spatial)]
    attributes = {"strides": [r.randint(1, 3) for _ in range(spatial)], "dilations": dilations}
    automatic = r.choice(["", "", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
    if automatic.startswith("SAME"):
        # onnxruntime refuses dilations, and what would be a negative padding.
        attributes = {"strides": [r.randint(1, k) for k in kernel]}
    attributes = {name: values for name, values in attributes.items() if r.random() < 0.7}
    reach = [d * (k - 1) + 1 for d, k in zip(attributes.get("dilations", [1] * spatial), kernel, strict=True)]
    if automatic:
        attributes["auto_pad"] = automatic
    if automatic in ("", "NOTSET"):
        begin, end = ([r.randint(0, k - 1) for k in kernel] for _ in range(2))
        short = [max(a - size - b - e, 0) for a, b, e in zip(reach, begin, end, strict=True)]
        attributes["pads"] = begin + [e + s for e, s in zip(end, short, strict=True)]
    return attributes


def convolution(r, op="Conv"):
    spatial, groups, size = r.randint(1, 3), r.randint(1, 3), r.randint(5, 7)
    inside, outside = r.randint(1, 2), r.randint(1, 2)
    kernel = [r.randint(1, 3) for _ in range(spatial)]
    attributes = {**windows(r, spatial, kernel, size), "group": groups}
    if r.random() < 0.5:
        attributes["kernel_shape"] = kernel
    x = floats(r, r.choice([1, 2, 5]), groups * inside, *[size] * spatial)
    weight = floats(r, groups * outside, inside, *kernel)
    bias = [floats(r, groups * outside)] if r.random() < 0.5 else []
    return Case(op, [x, weight, *bias], attributes, r.choice([9, 11, 22]), live=(0, 1, 2))


def _transposed(r):
    spatial, groups, size = r.randint(1, 3), r.randint(1, 3), r.randint(2, 4)
    inside, outside = r.randint(1, 2), r.randint(1, 2)
    kernel = [r.randint(1, 3) for _ in range(spatial)]
    strides = [r.randint(1, 3) for _ in range(spatial)]
    dilations = [r.randint(1, 2) for _ in range(spatial)]
    attributes = {"strides": strides, "dilations": dilations, "group": groups}
    if r.random() < 0.4:
        attributes["output_padding"] = [r.randrange(stride) for stride in strides]
    extra = attributes.get("output_padding", [0] * spatial)
    whole = [s * (size - 1) + d * (k - 1) + 1 + e for s, d, k, e in zip(strides, dilations, kernel, extra, strict=True)]
    how = r.choice(["pads", "output_shape", "auto", "none"])
    if how == "pads":
        begin = [r.randint(0, (w - 1) // 2) for w in whole]
        attributes["pads"] = begin + [r.randint(0, (w - 1) // 2) for w in whole]
    elif how == "output_shape":
        attributes["output_shape"] = [r.randint(max(w - 2, 1), w) for w in whole]
        attributes["auto_pad"] = r.choice(["NOTSET", "SAME_UPPER", "SAME_LOWER"])
    elif how == "auto":
        attributes["auto_pad"] = r.choice(["VALID", "SAME_UPPER", "SAME_LOWER"])
    x = floats(r, r.choice([1, 2, 5]), groups * inside, *[size] * spatial)
    weight = floats(r, groups * inside, outside, *kernel)
    bias = [floats(r, groups * outside)] if r.random() < 0.5 else []
    return Case("ConvTranspose", [x, weight, *bias], attributes, r.choice([9, 11, 22]), live=(0, 1, 2))


CASES = {"Conv": convolution, "ConvTranspose": _transposed}


@few_and_many(5, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", CASES)
def test_gradients_are_those_of_finite_differences(op, count):
    examples(CASES[op], check_gradient, count)


@pytest.mark.parametrize("automatic", [{}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}])
@pytest.mark.parametrize("wanted", [[], [5], [6]])
def test_a_transposed_convolution_whose_kernel_does_not_reach_the_next_window(automatic, wanted):
    attributes = {"strides": [3], **automatic, **({"output_shape": wanted} if wanted else {})}
    check_values(Case("ConvTranspose", [floats(Random(0), 1, 1, 2), floats(Random(1), 1, 1, 2)], attributes, 11))
