"""Whether a third-party ONNX file's own graph gives the gradients of its attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.verify.sources.onnx import OnnxSource

# If time is short.
_FEW = 8


def gradients_of(source: OnnxSource, images: Tensor, *, few: bool) -> dict[str, Any]:
    """Compares the file's graph, as it is read for gradients, with the runtime on some of the images to attack.

    Args:
        source: The file.
        images: float32 [N, C, H, W] in [0, 1], at least one.
        few: Whether to compare 8 images instead of 64.

    Returns:
        "used", whether its gradients are used; "why", in words; and "parity", the figures, if it could be compared.
    """
    try:
        parity = source.own_gradient_parity(images[:_FEW].numpy() if few else images.numpy())
    except InputError as error:
        return {"used": False, "why": str(error), "parity": None}
    why = str(parity) if parity.passed else f"{parity}: {parity.node}"
    return {"used": parity.passed, "why": why, "parity": parity.to_json()}
