"""Whether an engine's answer to an image depends on the other images of its batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tscnc_deploy.check.result import CheckResult, pass_or_fail

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.engines.base import Array


def check_batches(bundle: Bundle, name: str, images: Array, seed: int) -> CheckResult:
    """Asks an engine about images and noise, alone and in batches; see `engines.batches`.

    Args:
        bundle: The bundle.
        name: "twin", or an engine that this machine can run.
        images: float32 [N, C, H, W] in [0, 1], those that will be attacked.
        seed: Chooses images, sizes and orders.

    Raises:
        BundleError: The engine is damaged, or its graph depends on the batch; the message names the node.
        UnavailableError: This machine cannot run it.
    """
    from tscnc_deploy.engines.batches import DEPENDS, batch_dependence, sample_images, tolerance_for
    from tscnc_deploy.engines.torch_twin import TwinEngine

    title = f"{name}: answers do not depend on the batch"
    twin = bundle.twin if name == "twin" else None
    engine = bundle.engine(name) if twin is None else TwinEngine(twin, twin.input_shape, twin.classes)
    spec = engine.spec
    if spec.single_images:
        message = "it is given one image at a time: its dynamic quantisation takes its scales from the whole batch"
        return CheckResult(title, "note", message)
    images = np.concatenate([images[: spec.batch_max], sample_images(spec.input_shape, seed=seed)])
    found = batch_dependence(
        engine.logits, images, largest=spec.batch_max, tolerance=tolerance_for(spec.precision), seed=seed
    )
    return pass_or_fail(title, found is None, f"it {DEPENDS}: {found}")
