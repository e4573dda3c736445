"""Whether a third-party ONNX file, as it is read, gives the labels that the file itself gives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tscnc_deploy.engines.base import Array
    from tscnc_deploy.verify.sources.onnx import OnnxSource

_MOST = 256
_BATCH = 32


def settled(source: OnnxSource, images: Array) -> OnnxSource:
    """The source, read so that its labels on some of the images to attack are those of the file.

    A softmax or sigmoid at the end is left out only if that changes no label: results of a sigmoid may be equal to 1
    for several classes, of which the file names the first. One output whose values all lie in [0, 1] is a probability.

    Args:
        source: The file.
        images: float32 [N, C, H, W] in [0, 1], at least one.

    Raises:
        InputError: The file returns labels that the data set does not have, or cannot be run.
    """
    from tscnc_deploy.engines.onnx.reading import Reading

    adopted = source.adopted()
    if adopted.answers is None:
        return source
    images = images[:_MOST]
    reading = source.reading or Reading()
    own = _own_answers(adopted.answers, source, images)
    if adopted.labels_only:
        classes = reading.classes or 0
        if own.min() < 0 or own.max() >= classes:
            found = f"labels from {int(own.min())} to {int(own.max())}"
            msg = f"{source.path}: returns {found}, but the data set has {classes} classes, from 0 to {classes - 1}"
            raise InputError(msg)
        return source
    if adopted.single and not adopted.cut and own.min() >= 0 and own.max() <= 1:
        return replace(source, reading=replace(reading, probability=True))
    unordered = replace(source, order=None)
    labels = unordered.logits(images).argmax(1)
    theirs = (own.reshape(-1) > (0.5 if adopted.cut else 0)).astype(int) if adopted.single else _labels(own)
    if adopted.cut and not np.array_equal(labels, theirs):
        return replace(source, reading=replace(reading, cut=False))
    return source


def _labels(own: NDArray[Any]) -> NDArray[Any]:
    """The label of each image, of scores [N, K], with axes of size 1 besides, or of labels themselves."""
    flat = own.reshape(len(own), -1)
    return flat[:, 0] if flat.dtype.kind in "iu" else flat.argmax(1)


def _own_answers(data: bytes, source: OnnxSource, images: Array) -> NDArray[Any]:
    from tscnc_deploy.engines.onnx.session import CPU, one_line, open_session

    session = open_session(data, source.path, CPU, source.threads)
    (taken,) = session.get_inputs()
    # A dynamically quantised file takes its scales from all images of a call.
    step = taken.shape[0] if isinstance(taken.shape[0], int) else 1 if b"DynamicQuantize" in data else _BATCH
    found = []
    try:
        for place in range(0, len(images), step):
            part = images[place : place + step]
            given = np.resize(part, (step, *part.shape[1:]))
            found.append(session.run(None, {taken.name: given})[0][: len(part)])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        msg = f"{source.path}: onnxruntime cannot run it: {one_line(error)}"
        raise InputError(msg) from error
    return np.concatenate(found)
