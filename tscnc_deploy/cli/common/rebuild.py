"""What `check --reproduce` compares a bundle with: the same recipe, built again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.cli.common.bundles import given_folder

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check import Request
    from tscnc_deploy.pipeline.stages.base import Progress


def rebuild(folder: Path, request: Request, progress: Progress, bundle: Bundle) -> Bundle:
    """The bundle in a run's folder, which is built there from the given bundle's recipe unless it is finished.

    Nothing of the bundle is executed, its reproduce.sh neither.

    Args:
        folder: Of the run.
        request: Names the device, and where the data are.
        progress: Where to report.
        bundle: An opened bundle.

    Raises:
        InputError: The recipe needs data or weights that are not here, or the folder cannot be written.
        UnavailableError: This machine lacks what an engine is built with.
    """
    import torch

    from tscnc_deploy.bundle import open_bundle
    from tscnc_deploy.bundle.manifest import MANIFEST
    from tscnc_deploy.devices import describe_device
    from tscnc_deploy.pipeline.run import Run
    from tscnc_deploy.pipeline.stages import STAGES
    from tscnc_deploy.recipe import Data

    finished = given_folder(folder)
    if (finished / MANIFEST).exists():
        return open_bundle(finished)
    # The place of data is this machine's affair, not the bundle's.
    root = request.data_root or Data().root
    recipe = bundle.load_recipe(dataset=request.dataset, data_root=root)
    device = describe_device(torch.device(request.device))
    run = Run(folder, STAGES, device=request.device, device_class=device)
    run.prepare(0)
    run.build(recipe, progress)
    return open_bundle(folder / "bundle")
