"""The graphs of a bundle's ONNX files, read from the bytes whose digests were compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.record import MaskingWarning
    from tscnc_deploy.tscnc import LayerCondition

_NAMED = 5


def graph_of(bundle: Bundle, path: str) -> ModelProto:
    """The graph of an ONNX file.

    Args:
        bundle: The bundle.
        path: The file's path in it.

    Raises:
        InputError: The file is damaged, see `onnx.file.parse_onnx`.
    """
    from tscnc_deploy.engines.onnx.file import parse_onnx
    from tscnc_deploy.engines.onnx.limits import MAX_BYTES

    return parse_onnx(bundle.read(path, MAX_BYTES), path)


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


def flat_operators(bundle: Bundle, twin: str) -> Iterator[MaskingWarning]:
    """The sign that a twin may hide its gradient: operators that pass none on stand between images and logits.

    Args:
        bundle: The bundle; its maker chose the twin's operators.
        twin: The twin's path in it.

    Yields:
        One sign that names them, or nothing.

    Raises:
        InputError: See `graph_of`.
    """
    from tscnc_deploy.engines.onnx.flat import flat_nodes
    from tscnc_deploy.record import MaskingWarning
    from tscnc_deploy.text import escaped

    found = [
        f"{escaped(node.op_type)} '{escaped(node.name)}'" for node in flat_nodes(graph_of(bundle, twin), Path(twin))
    ]
    if found:
        named = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
        message = f"between images and logits, {twin} has {named}, whose gradient is zero or does not exist"
        yield MaskingWarning(name="flat-operators", figure=len(found), limit=0, message=message)
