"""Reads an ONNX graph as an `nn.Module` with gradients: a file without a PyTorch model is its own twin.

Converters exist: onnx2torch (last released in 2024) refuses what PyTorch exports by default today, and onnx2pytorch
lacks most operators of quantised graphs. Attacks need the gradients of every file, so this reader is our own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
    from tscnc_deploy.engines.onnx.reading import Reading


def differentiable(path: str | Path, reading: Reading | None = None) -> GraphModule:
    """Reads an image classifier's ONNX file as a module with its weights and the gradient of its logits.

    Args:
        path: A file as other tools write it, see `onnx.foreign`.
        reading: How to read it; None finds out. Free heights and widths need `Reading(input_size=...)`.

    Returns:
        The module on the CPU, in eval mode, for images float32 [N, C, H, W] in [0, 1]; see `GraphModule`.

    Raises:
        InputError: The file is refused, see `onnx.foreign.adopt`, needs too much memory, or has an operator that is
            not supported; the message names the node.
    """
    from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
    from tscnc_deploy.engines.onnx.foreign import adopt

    return GraphModule(adopt(Path(path), reading).model, Path(path))
