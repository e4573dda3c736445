"""Images for attacking a third-party model: test images of a recipe's data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.data import Dataset
    from tscnc_deploy.recipe import Recipe
    from tscnc_deploy.verify.sources.base import IOSpec


class EvaluationImages(NamedTuple):
    """Images to attack.

    Attributes:
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        classes: Names of the classes; labels index them.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


def evaluation_images(recipe: Recipe, samples: int | None, seed: int) -> EvaluationImages:
    """Test images of a recipe's data section; see `draw_images`.

    Raises:
        DataError: The data cannot be loaded, see `data.load`.
        InputError: See `draw_images`.
    """
    from tscnc_deploy import data

    return draw_images(data.load(recipe.data), samples, seed)


def draw_images(dataset: Dataset, samples: int | None, seed: int) -> EvaluationImages:
    """Test images, with the same share of each class, in the data set's order.

    Args:
        dataset: The data set to draw from.
        samples: Number of images; None takes all.
        seed: Seed of the draw; a recipe's own seed gives the images of its build.

    Raises:
        InputError: There are fewer images.
    """
    import torch

    from tscnc_deploy.data import stratified
    from tscnc_deploy.seeds import derive_generator

    test = dataset.test
    index = torch.arange(len(test))
    if samples is not None:
        if not 1 <= samples <= len(test):
            msg = f"--samples {samples}: {dataset.name} has only {len(test)} test images"
            raise InputError(msg)
        index = stratified(test.labels, samples, derive_generator(seed, "verify"))
    return EvaluationImages(*test.batch(index), dataset.classes)


def check_fit(name: str, form: IOSpec, input_shape: Sequence[int], classes: Sequence[str]) -> None:
    """Refuses images and classes that do not match a model.

    Args:
        name: Name of the model, for messages.
        form: Input and output of the model; if its logits are reordered (see `order_of`), after that.
        input_shape: (channels, height, width) of the images.
        classes: Names of their classes.

    Raises:
        InputError: The message names both, and how to change the images or the logits.
    """
    channels, height, width = form.input_shape
    if tuple(input_shape) != form.input_shape:
        if channels != input_shape[0]:
            hint = f"use images with {channels} channel{'s' if channels > 1 else ''}"
        elif height == width:
            hint = f"--set data.image_size={height} resizes the images"
        else:
            hint = "data.image_size resizes images to squares only, so use images of that size"
        msg = (
            f"{name} takes images {list(form.input_shape)} (channels, height, width), but those of the data set are "
            f"{list(input_shape)}; {hint}"
        )
        raise InputError(msg)
    if form.classes != len(classes):
        msg = (
            f"{name} gives {form.classes} logits, but the data set has {len(classes)} classes; "
            "--labels says what each logit stands for"
        )
        raise InputError(msg)
