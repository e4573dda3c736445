"""How to read a third-party ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["nchw", "nhwc"]
Channels = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Reading:
    """How to read a third-party file. What is None is found out, where the file leaves no doubt.

    Attributes:
        layout: Order of the input's axes.
        range: The largest value of a pixel in the input, 1 or 255.
        channels: Order of the input's colours.
        input_size: (height, width) where the file leaves them free.
        output: Name of the output with the logits.
        image_channels: Number of channels of the images, where the file leaves it free.
        classes: Number of classes, for a file that returns labels only.
        contrib: Whether onnxruntime's own operators are accepted.
        cut: Whether a softmax, sigmoid or argmax at the end is left out.
        probability: Whether a single output is the probability of the second of two classes, not a logit.
    """

    layout: Layout | None = None
    range: int | None = None
    channels: Channels | None = None
    input_size: tuple[int, int] | None = None
    output: str | None = None
    image_channels: int | None = None
    classes: int | None = None
    contrib: bool = False
    cut: bool = True
    probability: bool = False
