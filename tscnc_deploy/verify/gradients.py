"""Whether a third-party ONNX file's own graph gives the gradients of its attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.verify.sources.onnx import OnnxSource

# If time is short.
_FEW = 8
# Elements that the graph computes for all images of a batch: 1 GB as float32, and about as much again for gradients.
_MOST_ON_CPU = 1 << 28
_SHARE_OF_GPU = 0.3


def gradients_of(source: OnnxSource, images: Tensor, device: str, *, few: bool) -> dict[str, Any]:
    """Compares the file's graph, as it is read for gradients, with the runtime on some of the images to attack.

    Args:
        source: The file.
        images: float32 [N, C, H, W] in [0, 1], at least one.
        device: Where the attack will run, such as "cpu" or "cuda:0".
        few: Whether to compare 8 images instead of 64.

    Returns:
        "used", whether its gradients are used; "why", in words; "parity", the figures, if it could be compared; and
        "batch", the largest number of images whose gradients fit into memory.
    """
    try:
        parity, elements = source.own_gradient_parity(images[:_FEW].numpy() if few else images.numpy())
    except InputError as error:
        return {"used": False, "why": str(error), "parity": None, "batch": None}
    why = str(parity) if parity.passed else f"{parity}: {parity.node}"
    batch = max(_most_elements(device) // max(elements, 1), 1)
    return {"used": parity.passed, "why": why, "parity": parity.to_json(), "batch": batch}


def _most_elements(device: str) -> int:
    if not device.startswith("cuda"):
        return _MOST_ON_CPU
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(free * _SHARE_OF_GPU) // 4
