"""The graphs of a bundle's ONNX files, read from the bytes whose digests were compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.tscnc import LayerCondition


def graph_of(bundle: Bundle, path: str) -> ModelProto:
    """The graph of an ONNX file.

    Args:
        bundle: The bundle.
        path: The file's path in it.

    Raises:
        InputError: The file is damaged, see `onnx.file.parse_onnx`.
    """
    from tscnc_deploy.engines.onnx.file import parse_onnx

    return parse_onnx(bundle.read(path), path)


def conditions_of(bundle: Bundle, twin: str) -> list[LayerCondition]:
    """Statistics of every convolution and linear layer of a twin, by its path in the bundle.

    Raises:
        InputError: See `graph_of`.
    """
    import torch

    from tscnc_deploy.engines.onnx.structure import weights_of
    from tscnc_deploy.tscnc import condition

    weights = weights_of(graph_of(bundle, twin).graph)
    return [condition(torch.tensor(weight), name) for name, weight in weights.items()]
