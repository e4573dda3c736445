"""Whether a third-party ONNX file's own graph gives the gradients of its attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.verify.sources.onnx import OnnxSource

# If time is short. One of them may differ, as a tenth of more may.
_FEW = 10
_AGREEMENT = 0.9
# Elements that the graph computes for all images of a batch: 1 GB as float32, and about as much again for gradients.
_MOST_ON_CPU = 1 << 28
_SHARE_OF_GPU = 0.3


def gradients_of(
    source: OnnxSource, images: Tensor, device: str, *, few: bool = False, processes: int = 1
) -> dict[str, Any]:
    """Compares the file's graph, as it is read for gradients, with the runtime on some of the images to attack.

    Args:
        source: The file.
        images: float32 [N, C, H, W] in [0, 1], at least one.
        device: Where the attack will run, such as "cpu" or "cuda:0".
        few: Whether to compare 10 images instead of 64.
        processes: How many may share one GPU.

    Returns:
        "used", whether its gradients are used; "why", in words; "parity", the figures, if it could be compared; and
        "batch", the largest number of images whose gradients fit into memory.
    """
    try:
        parity, elements = source.own_gradient_parity(images[:_FEW].numpy() if few else images.numpy())
    except InputError as error:
        return {"used": False, "why": str(error), "parity": None, "batch": None}
    why = str(parity) if parity.passed else f"{parity}: {parity.node}"
    batch = max(_most_elements(device, processes) // max(elements, 1), 1)
    return {"used": parity.passed, "why": why, "parity": parity.to_json(), "batch": batch}


def _most_elements(device: str, processes: int) -> int:
    if not device.startswith("cuda"):
        return _MOST_ON_CPU
    import torch

    # Of all memory, not of what is free now: every process must come to the same number.
    return int(torch.cuda.get_device_properties(device).total_memory * _SHARE_OF_GPU) // (4 * processes)


def require_twin(source: OnnxSource, images: Tensor) -> dict[str, Any]:
    """Compares the labels of a file and of the twin that was given for it.

    Args:
        source: The file with its twin.
        images: float32 [N, C, H, W] in [0, 1], at least one.

    Raises:
        InputError: They agree on less than 90% of at most 64 images: the gradients are those of another network.
    """
    same, count = source.twin_agreement(images.numpy())
    if same < _AGREEMENT * count:
        msg = (
            f"--twin: its labels agree with those of {source.path} on {same} of {count} images only, so it has the "
            "gradients of another network; leave out --twin to attack with the file's own graph, or give --mean and "
            "--std (0 and 1 if the weights take pixels as they are)"
        )
        raise InputError(msg)
    return {"used": True, "why": f"labels of the twin agree on {same} of {count} images", "parity": None, "batch": None}
