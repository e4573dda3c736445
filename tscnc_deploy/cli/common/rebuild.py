"""Rebuilds a bundle from its recipe, for `check --reproduce` to compare the two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check import CheckRequest
    from tscnc_deploy.progress import Progress


def rebuild(folder: Path, request: CheckRequest, progress: Progress, bundle: Bundle) -> Bundle:
    """Builds the given bundle's recipe in a run folder, unless the folder already contains a finished build.

    Runs nothing from the bundle, not even its reproduce.sh.

    Args:
        folder: Folder of the run.
        request: Sets the device, the data set and the data folder.
        progress: Reports the progress of the build.
        bundle: An opened bundle.

    Returns:
        The rebuilt bundle, opened.

    Raises:
        InputError: The recipe needs data or weights that are missing here, or the folder cannot be written.
        UnavailableError: This machine lacks what an engine needs to be built.
    """
    import torch

    from tscnc_deploy.bundle import open_bundle
    from tscnc_deploy.bundle.manifest import MANIFEST
    from tscnc_deploy.bundle.opening import given_folder
    from tscnc_deploy.devices import describe_device
    from tscnc_deploy.pipeline.run import Run
    from tscnc_deploy.pipeline.stages import STAGES

    finished = given_folder(folder)
    if (finished / MANIFEST).exists():
        return open_bundle(finished)
    recipe = bundle.load_recipe(dataset=request.dataset, data_root=request.data_root)
    device = describe_device(torch.device(request.device))
    run = Run(folder, STAGES, device=request.device, device_class=device)
    run.prepare(0)
    run.build(recipe, progress)
    return open_bundle(folder / "bundle")
