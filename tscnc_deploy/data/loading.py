"""Loads the data of a recipe's data section as disjoint splits in memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tscnc_deploy.data.raw import Part, Raw
from tscnc_deploy.data.sampling import stratified
from tscnc_deploy.data.source import source_of, unreadable_refused
from tscnc_deploy.data.splits import Dataset, Split
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data

# Fixed instead of the recipe's seed, so that builds with different seeds are tested on the same images.
SPLIT_SEED = 250320454
_CHUNK = 1024


def load(settings: Data) -> Dataset:
    """Reads and checks a data set, then limits and splits it.

    `train_limit` and `test_limit` draw stratified subsets; `validation` then takes a stratified share of the training
    images. All draws depend only on the data and these three settings.

    Raises:
        DataError: The data are missing or damaged, or have fewer than two classes, values outside [0, 1] or labels out
            of range; a limit exceeds the number of images or leaves a class out; or validation leaves a class without
            training images.
    """
    source = source_of(settings.dataset)
    with unreadable_refused(settings):
        raw = source.read(settings)
    _check(raw, settings.dataset)
    train_index = _limited(raw.train, settings.train_limit, "train", raw.classes)
    test_index = _limited(raw.test, settings.test_limit, "test", raw.classes)
    labels = torch.from_numpy(raw.train.labels)[train_index]
    held_out = _held_out(labels, settings.validation)
    _check_trained(labels[~held_out], raw.classes, settings)
    return Dataset(
        name=settings.dataset,
        classes=raw.classes,
        train=_split(raw.train, train_index[~held_out], settings.image_size),
        validation=_split(raw.train, train_index[held_out], settings.image_size),
        test=_split(raw.test, test_index, settings.image_size),
        skipped=raw.skipped,
    )


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SPLIT_SEED)


def _check(raw: Raw, name: str) -> None:
    if len(raw.classes) < 2:
        msg = f"{name}: a classifier needs at least two classes, not {len(raw.classes)}: {', '.join(raw.classes)}"
        raise DataError(msg)
    for part_name, part in (("training", raw.train), ("test", raw.test)):
        if len(part.labels) == 0:
            msg = f"{name}: contains no {part_name} images"
            raise DataError(msg)
        outside = np.flatnonzero((part.labels < 0) | (part.labels >= len(raw.classes)))
        if len(outside):
            msg = (
                f"{name}: the label of {part_name} image {outside[0]} is {part.labels[outside[0]]}; "
                f"labels must be from 0 to {len(raw.classes) - 1}"
            )
            raise DataError(msg)
        if part.images.dtype != np.uint8:
            # One comparison catches both bounds and NaN, since NaN compares false with everything.
            inside = (part.images >= 0) & (part.images <= 1)
            if not inside.all():
                index = tuple(int(i) for i in np.argwhere(~inside)[0])
                value = part.images[index]
                msg = f"{name}: {part_name} image {index[0]} has the value {value}; float images must be in [0, 1]"
                raise DataError(msg)
    if raw.train.images.shape[1:] != raw.test.images.shape[1:]:
        msg = (
            f"{name}: training images are {list(raw.train.images.shape[1:])} and test images "
            f"{list(raw.test.images.shape[1:])} (channels, height, width); they must be the same"
        )
        raise DataError(msg)


def _limited(part: Part, limit: int | None, which: str, classes: tuple[str, ...]) -> Tensor:
    total = len(part.labels)
    if limit is None:
        return torch.arange(total)
    if not len(classes) <= limit <= total:
        msg = (
            f"data.{which}_limit = {limit} must be between {len(classes)}, the number of classes, "
            f"and {total}, the number of {which} images"
        )
        raise DataError(msg)
    return stratified(torch.from_numpy(part.labels), limit, _generator())


def _held_out(labels: Tensor, share: float) -> Tensor:
    count = round(share * len(labels))
    if share > 0 and count == 0:
        least = f"set at least {1 / len(labels):.2g}, or 0 for no validation images"
        msg = f"data.validation = {share:g} of {len(labels)} training images is less than one image; {least}"
        raise DataError(msg)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[stratified(labels, count, _generator())] = True
    return mask


def _check_trained(labels: Tensor, classes: tuple[str, ...], settings: Data) -> None:
    counts = labels.bincount(minlength=len(classes))
    absent = (counts == 0).nonzero().flatten().tolist()
    if absent:
        names = ", ".join(repr(classes[k]) for k in absent[:5]) + (", ..." if len(absent) > 5 else "")
        msg = (
            f"{settings.dataset}: no training image remains for class {names} "
            f"(data.train_limit = {settings.train_limit}, data.validation = {settings.validation:g}); "
            "every class needs at least one"
        )
        raise DataError(msg)


def _split(part: Part, index: Tensor, side: int | None) -> Split:
    images = torch.from_numpy(part.images[index.numpy()])
    if side is not None and images.shape[2:] != (side, side):
        images = _resized(images, side)
    return Split(images, torch.from_numpy(part.labels)[index])


def _resized(images: Tensor, side: int) -> Tensor:
    resized = torch.empty((*images.shape[:2], side, side), dtype=images.dtype)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].float()
        values = F.interpolate(chunk, size=(side, side), mode="bilinear", antialias=True)
        # The conversion to uint8 truncates, so round first to preserve grey levels.
        values = values.round().clamp(0, 255) if images.dtype == torch.uint8 else values.clamp(0, 1)
        resized[start : start + _CHUNK] = values
    return resized
