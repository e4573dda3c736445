"""Reads an ONNX graph as an `nn.Module` with gradients: a file without a PyTorch model is its own twin.

Converters exist: onnx2torch (last released in 2024) refuses what PyTorch exports by default today, and onnx2pytorch
lacks most operators of quantised graphs. Attacks need the gradients of every file, so this reader is our own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.errors import InputError
from tscnc_deploy.files import Read, read_file

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


def open_twin(path: Path, read: Read = read_file) -> GraphModule:
    """Opens the twin of an engine: a graph that `onnx.export.export_onnx` wrote, or that claims to be one.

    Args:
        path: Path of the file.
        read: Returns the file's content.

    Returns:
        The module on the CPU, in eval mode; see `GraphModule`.

    Raises:
        InputError: The file is refused, see `onnx.file.parse_onnx` and `GraphModule`, has a fixed batch size, or its
            answer to an image depends on the other images of the batch.
    """
    from tscnc_deploy.engines.onnx.batch import needs_single_images, require_independent_images
    from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
    from tscnc_deploy.engines.onnx.file import parse_onnx
    from tscnc_deploy.engines.onnx.limits import MAX_BYTES
    from tscnc_deploy.engines.onnx.signature import signature_of

    model = parse_onnx(read(path, MAX_BYTES), path)
    module = GraphModule(model, path)
    signature = signature_of(model, path)
    require_independent_images(model, signature, path)
    if signature.batch is not None or needs_single_images(model, signature, path):
        msg = f"{path}: is not for any number of images at a time, as a twin must be"
        raise InputError(msg)
    return module
