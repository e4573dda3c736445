"""Whether the answer to an image depends on the other images of its batch, found by asking.

Batches are an implementation detail of whoever asks: an evaluation asks about hundreds of images at once, a server
about those of the clients that happen to wait. An engine whose answers depend on them is another classifier in each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscnc_deploy.engines.base import Array, EngineSpec
from tscnc_deploy.errors import InputError

DEPENDS = "depends on the other images of the batch"
TOLERANCES = {"fp32": 1e-4, "fp16": 0.02, "int8": 0.02}
"""Largest difference of a logit between batches, relative to the largest logit, by precision.

Libraries may sum in another order for other batch sizes. On an AMD EPYC, networks of all built-in architectures differ
by at most 3e-7 in float32 (onnxruntime, sparse-cpu and PyTorch), 3e-7 in 8 bits and 6e-8 in float16 files, which
onnxruntime computes in float32. Where a sum does differ by its last bit, it may be rounded to the next of 255 steps in
8 bits: images that differ by 3e-7 give logits that differ by 0.0025. GPUs round every operator of float16 to 2^-11.
"""

# Images whose answers alone are the reference.
_ALONE = 24
# Fewer are asked about if time is short, but at least so many alone and together.
_LEAST = 2
_DIFFERENT = 64
_FIXED = (2, 3, 7)
_DRAWN = 4
# 64 MB of pixels; servers and evaluations of larger images use smaller batches too.
_MOST_PIXELS = 1 << 24


def tolerance_for(precision: str) -> float:
    """The tolerance for a precision as `EngineSpec.precision` names it; the largest one if it is not known."""
    return TOLERANCES.get(precision, max(TOLERANCES.values()))


def batch_dependence(
    classify: Callable[[Array], Array],
    images: Array,
    *,
    largest: int,
    tolerance: float,
    seed: int = 0,
    seconds: float = math.inf,
) -> str | None:
    """Asks about the same images alone and in batches, and compares the answers.

    Up to 24 images are classified alone. They are then classified together with others: in batches of 2, 3 and 7, of
    the largest size, with up to 64 different images, and of four sizes drawn by the seed from 1 to the largest (small
    ones more often), each in a random order. A logit may differ by the tolerance times the largest logit,
    and a label may not change unless its two largest logits are as close.

    What it cannot find: a dependence at sizes that were not drawn (use other seeds), on images that it did not show
    together, such as a trigger that one of them must contain, or on anything else than the batch, such as time.

    Args:
        classify: Maps float32 [N, C, H, W] in [0, 1] to float32 [N, K], deterministically.
        images: float32 [N, C, H, W] in [0, 1], N at least 1; a few hundred are enough.
        largest: Largest batch to ask about. Batches of more than 16 million values are not.
        tolerance: See `tolerance_for`.
        seed: Chooses images, sizes and orders.
        seconds: When to end, at the earliest after two images alone and in a batch of two. Half of the time is for the
            images alone.

    Returns:
        How the answers differ, as the end of a sentence about the engine; None if they do not.
    """
    started = time.monotonic()
    random = np.random.default_rng([seed, 0xBA7C4])
    chosen = random.permutation(len(images))[:_ALONE]
    singles: list[Array] = []
    for row in chosen:
        if len(singles) >= _LEAST and time.monotonic() - started > seconds / 2:
            break
        singles.append(classify(images[row : row + 1]))
    chosen, alone = chosen[: len(singles)], np.concatenate(singles)
    largest = max(1, min(largest, _MOST_PIXELS // max(1, math.prod(images.shape[1:]))))
    for rows in _batches(chosen, len(images), largest, random):
        answers = classify(images[rows])
        places = {int(row): place for place, row in enumerate(chosen)}
        known = np.array([place for place, row in enumerate(rows) if int(row) in places])
        expected = alone[[places[int(row)] for row in rows[known]]]
        if (how := _difference(expected, answers[known], alone, tolerance)) is not None:
            return f"its answer to an image among {len(rows)} differs from that to the image alone {how}"
        if time.monotonic() - started > seconds:
            break
    return None


def require_independent(engine: Any, images: Array, *, seed: int = 0) -> None:
    """Refuses an engine whose answer to an image depends on the other images of the batch.

    Args:
        engine: An `Engine`.
        images: See `batch_dependence`.
        seed: See `batch_dependence`.

    Raises:
        InputError: It depends on the batch; the message says how.
    """
    spec: EngineSpec = engine.spec
    found = batch_dependence(
        engine.logits, images, largest=spec.batch_max, tolerance=tolerance_for(spec.precision), seed=seed
    )
    if found is not None:
        msg = f"the engine {spec.name} {DEPENDS}: {found}"
        raise InputError(msg)


def sample_images(input_shape: tuple[int, int, int], count: int = 2 * _ALONE, seed: int = 0) -> Array:
    """Images for where there are none: noise of many brightnesses and contrasts, float32 [N, C, H, W] in [0, 1]."""
    random = np.random.default_rng([seed, 0x1DEA])
    noise = random.random((count, *input_shape), np.float32)
    low, high = np.sort(random.random((2, count, 1, 1, 1), np.float32), axis=0)
    return np.clip(low + (high - low) * noise, 0, 1)


def _batches(
    chosen: NDArray[np.int64], count: int, largest: int, random: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Rows of the images of each batch; every batch has at least one image whose answer alone is known."""
    drawn = np.exp(random.uniform(0, math.log(largest + 1), _DRAWN)).astype(int)
    sizes = [*_FIXED, *drawn.tolist(), largest]
    for size in dict.fromkeys(min(max(int(size), 1), largest) for size in sizes):
        # Every place of the largest batch is compared: the answer may depend on the place.
        yield random.permutation(np.resize(chosen, size))
    others = random.permutation(np.setdiff1d(np.arange(count), chosen))
    room = min(largest, _DIFFERENT)
    yield random.permutation(np.concatenate([chosen[: room // 2 + 1], others])[:room])


def _difference(expected: Array, found: Array, alone: Array, tolerance: float) -> str | None:
    if found.shape != expected.shape:
        return f"in its shape, {list(found.shape)} instead of {list(expected.shape)}"
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return "by values that are not finite"
    apart = np.abs(found - expected, where=finite, out=np.zeros_like(expected))
    scale = float(np.abs(alone, where=np.isfinite(alone), out=np.zeros_like(alone)).max(initial=0))
    worst = float(apart.max(initial=0))
    if worst > tolerance * scale:
        return f"by {worst / scale if scale else math.inf:.3g} of the largest logit, more than {tolerance:g}"
    # One huge logit must not hide that others change a label.
    if alone.shape[1] > 1 and finite.all():
        margins = _margins(expected)
        flipped = (found.argmax(1) != expected.argmax(1)) & (margins > tolerance * _margins(alone).max())
        if flipped.any():
            return "in its label"
    return None


def _margins(logits: Array) -> Array:
    ordered = np.sort(logits, axis=1)
    margins: Array = ordered[:, -1] - ordered[:, -2]
    return margins
