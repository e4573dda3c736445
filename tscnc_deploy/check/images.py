"""Bundles that hold digests of their evidence images instead of the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tscnc_deploy.check.result import CheckResult
from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.request import Request


def bring(bundle: Bundle, baseline: Bundle | None, request: Request) -> tuple[Bundle, Bundle | None]:
    """Both with the images that they withhold, where the user says which data set these are in.

    Raises:
        InputError: A data set is given and no bundle withholds its images, or its images are not the evaluated ones.
        DataError: The data set cannot be loaded.
    """
    if request.dataset is None and request.data_root is None:
        return bundle, baseline
    withheld = bundle.withheld or (baseline and baseline.withheld)
    if not withheld and request.rebuild is None:
        option = "--dataset" if request.dataset else "--data-root"
        msg = f"{option}: {bundle.path} brings its evidence images; leave it out"
        raise InputError(msg)
    return _complete(bundle, request), baseline and _complete(baseline, request)


def _complete(bundle: Bundle, request: Request) -> Bundle:
    from tscnc_deploy.recipe import Data
    from tscnc_deploy.verify.withheld import bring_images

    if bundle.withheld is None:
        return bundle
    # The maker of the bundle does not say where on this machine data are read, and written when they are downloaded.
    root = request.data_root or Data().root
    recipe = bundle.load_recipe(dataset=request.dataset, data_root=root)
    return bring_images(bundle, recipe.data)


def lacks_images(bundle: Bundle) -> bool:
    """Whether it withholds its evidence images and nobody brought them."""
    return bundle.withheld is not None and bundle.supplied is None


def not_run(bundle: Bundle) -> CheckResult:
    """Bad input (exit status 2), not "skipped", which passes, nor inconclusive, which pipelines may let pass.

    Or whoever has something to hide would withhold the images.
    """
    said = (
        f"{bundle.path} holds digests of its evidence images only, so replay and fresh attack were NOT RUN and nothing "
        "is said about robustness; give the data set with --data-root DIR (and --dataset NAME)"
    )
    return CheckResult("replay and fresh attack", "error", said)
