"""The images of the fresh attack: whose they are, how many are different, and those that a bundle withholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.check.request import CheckRequest
    from tscnc_deploy.recipe import Data

# As many as a default bundle has as evidence.
DRAWN_IMAGES = 256
# Data sets contain a few images twice.
_LEAST_DISTINCT = 0.95
# Images whose thumbnails are this close (root of the mean square, for pixels in [0, 1]) are nearly the same.
_NEAR = 0.04
_THUMBNAIL = 8
# If merging nearly equal images leaves less than this share, the number of images means nothing.
_LEAST_UNLIKE = 0.25
_MOST_COMPARED = 4096


@dataclass(frozen=True, eq=False)
class Shown:
    """Different images to attack all engines on.

    Attributes:
        images: float32 [N, C, H, W] in [0, 1], no two equal.
        labels: int64 [N].
        drawn: Whether this check drew them from a data set.
    """

    images: Tensor
    labels: Tensor
    drawn: bool


def supply_images(bundle: Bundle, baseline: Bundle | None, request: CheckRequest) -> tuple[Bundle, Bundle | None]:
    """Both bundles, with the images that they withhold added from the data set that the request names, if any.

    Raises:
        InputError: The data set's images are not the evaluated ones.
        DataError: The data set cannot be loaded.
    """
    if not request.draws:
        return bundle, baseline
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


def draw_images(bundle: Bundle, policy: Policy, request: CheckRequest) -> Shown:
    """Test images of the data set that the request names, drawn by this check with the same share of each class.

    The policy's recipe says how they are resized; its limits on their number do not apply. The seed's stream is not
    that of builds, so a build with the same seed was evaluated on others.

    Raises:
        DataError: The data set cannot be loaded.
        InputError: Its images or classes are not those of the bundle, or there are fewer.
    """
    import torch

    from tscnc_deploy import data
    from tscnc_deploy.data import stratified
    from tscnc_deploy.seeds import derive_generator

    dataset = data.load(_settings(policy, request))
    model, test = bundle.manifest.model, dataset.test
    if dataset.input_shape != model.input_shape:
        msg = (
            f"{bundle.path} is for images {list(model.input_shape)} (channels, height, width), but those of "
            f"{dataset.name} are {list(dataset.input_shape)}; --set data.image_size=N resizes them"
        )
        raise InputError(msg)
    if dataset.classes != model.classes:
        msg = f"{bundle.path} has other classes than {dataset.name}, or the same in another order"
        raise InputError(msg)
    samples = request.samples or min(DRAWN_IMAGES, len(test))
    if samples > len(test):
        msg = f"--samples {samples}: {dataset.name} has only {len(test)} test images"
        raise InputError(msg)
    index = stratified(test.labels, samples, derive_generator(request.seed, "check"))
    images, labels = test.batch(index)
    rows = torch.tensor(first_of_each(images), dtype=torch.int64)
    return Shown(images[rows], labels[rows], drawn=True)


def _settings(policy: Policy, request: CheckRequest) -> Data:
    """The policy's data section for the request's data set; what limits the test images is left out."""
    from tscnc_deploy.recipe import Data

    changed: dict[str, object] = {"train_limit": None, "test_limit": None, "validation": 0.0}
    given = {"dataset": request.dataset, "root": request.data_root}
    changed |= {key: value for key, value in given.items() if value is not None}
    return Data.model_validate(policy.recipe.data.model_dump() | changed)


def evidence_images(bundle: Bundle) -> Shown:
    """The different evidence images of a bundle, in their order."""
    import torch

    images, labels = torch.from_numpy(bundle.evidence.images), torch.from_numpy(bundle.evidence.labels)
    rows = torch.tensor(first_of_each(images), dtype=torch.int64)
    return Shown(images[rows], labels[rows], drawn=False)


def check_images(bundle: Bundle, shown: Shown, baseline: Bundle | None, request: CheckRequest) -> Iterator[CheckResult]:
    """Who chose the images, and whether there are as many different ones as the evidence claims.

    Args:
        bundle: The checked bundle, with its images.
        shown: What is attacked.
        baseline: The bundle whose images they are, if not this one's.
        request: The seed that drew them.
    """
    name = "images: chosen by"
    if shown.drawn:
        yield CheckResult(
            name, "passed", f"this check: {len(shown.labels)} test images, drawn with seed {request.seed}"
        )
    elif baseline is not None:
        yield CheckResult(name, "passed", f"the baseline: its {len(shown.labels)} evidence images")
    else:
        message = (
            "the maker of the bundle, who may have taken those that are easy, or that the network was trained on; "
            "--dataset NAME --data-root DIR attacks test images that this check draws"
        )
        yield CheckResult(name, "note", message)
    evidence = bundle.evidence.images
    distinct, wanted = len(first_of_each(evidence)), round(_LEAST_DISTINCT * len(evidence))
    message = f"only {distinct} of {len(evidence)} evidence images are different"
    yield pass_or_fail("evidence: different images", distinct >= wanted, message, distinct, wanted)
    yield _check_near(evidence)


def _check_near(evidence: object) -> CheckResult:
    import torch

    images = torch.as_tensor(evidence)
    compared = images[torch.tensor(first_of_each(images), dtype=torch.int64)][:_MOST_COMPARED]
    unlike, wanted = count_unlike(compared), round(_LEAST_UNLIKE * len(compared))
    name = "evidence: images that are not nearly the same"
    message = f"{len(compared) - unlike} of {len(compared)} different images are nearly the same as another"
    if unlike >= wanted and unlike < _LEAST_DISTINCT * len(compared):
        return CheckResult(name, "note", message, unlike, wanted)
    return pass_or_fail(name, unlike >= wanted, message, unlike, wanted)


def first_of_each(images: object) -> list[int]:
    """The positions of images that are not equal to an earlier one, ascending.

    Args:
        images: [N, C, H, W], as a tensor or an array. Compared byte by byte.
    """
    import numpy as np

    seen: set[bytes] = set()
    rows = []
    for row, image in enumerate(np.ascontiguousarray(np.asarray(images))):
        content = (image + 0.0).tobytes()  # -0.0 is the same pixel as 0.0
        if content not in seen:
            seen.add(content)
            rows.append(row)
    return rows


def count_unlike(images: Tensor) -> int:
    """Number of images that are not nearly the same as an earlier one that counts.

    Images are compared as grey thumbnails of at most 8x8 pixels, by the root of the mean square of the difference.

    Args:
        images: float32 [N, C, H, W] in [0, 1].
    """
    import torch
    from torch.nn import functional as F

    if not len(images):
        return 0
    size = (min(images.shape[2], _THUMBNAIL), min(images.shape[3], _THUMBNAIL))
    thumbnails = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), size).flatten(1)
    limit = _NEAR * thumbnails.shape[1] ** 0.5
    near = torch.cdist(thumbnails, thumbnails) < limit
    counted = torch.zeros(len(images), dtype=torch.bool)
    for row in range(len(images)):
        counted[row] = not bool((near[row, :row] & counted[:row]).any())
    return int(counted.sum())
