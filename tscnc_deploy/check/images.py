"""Bundles that contain only digests of their evidence images, not the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tscnc_deploy.check.result import CheckResult
from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.request import CheckRequest


def supply_images(bundle: Bundle, baseline: Bundle | None, request: CheckRequest) -> tuple[Bundle, Bundle | None]:
    """Both bundles, with the images that they withhold added from the data set that the request names, if any.

    Raises:
        InputError: The request names a data set but no bundle withholds its images, or the data set's images are not
            the evaluated ones.
        DataError: The data set cannot be loaded.
    """
    if request.dataset is None and request.data_root is None:
        return bundle, baseline
    withheld = bundle.withheld or (baseline and baseline.withheld)
    if not withheld and request.rebuild is None:
        option = "--dataset" if request.dataset else "--data-root"
        msg = f"{option}: {bundle.path} contains its evidence images; remove the option"
        raise InputError(msg)
    return _complete(bundle, request), baseline and _complete(baseline, request)


def _complete(bundle: Bundle, request: CheckRequest) -> Bundle:
    from tscnc_deploy.verify.withheld import bring_images

    if bundle.withheld is None:
        return bundle
    recipe = bundle.load_recipe(dataset=request.dataset, data_root=request.data_root)
    return bring_images(bundle, recipe.data)


def lacks_images(bundle: Bundle) -> bool:
    """Whether the bundle withholds its evidence images and they have not been supplied."""
    return bundle.withheld is not None and bundle.supplied is None


def images_missing(bundle: Bundle) -> CheckResult:
    """The result for a bundle that cannot be attacked because its images are missing.

    It is bad input (exit status 2). Neither "skipped", which passes, nor "inconclusive", which pipelines may let pass,
    would do: anyone with something to hide could then simply withhold the images.
    """
    message = (
        f"{bundle.path} contains only digests of its evidence images, so replay and fresh attack were NOT RUN and "
        "robustness is unknown; give the data set with --data-root DIR (and --dataset NAME)"
    )
    return CheckResult("replay and fresh attack", "error", message)
