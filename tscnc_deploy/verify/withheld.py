"""Takes the evidence images that a bundle withholds from the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.recipe import Data


def bring_images(bundle: Bundle, settings: Data) -> Bundle:
    """The same bundle with the evidence images that it withholds.

    Args:
        bundle: An opened bundle that contains only digests of its evidence images.
        settings: The data section of the bundle's recipe, with the path of the data on this machine; determines the
            images and their order.

    Raises:
        BundleError: It contains its images, or those of the data set are not the ones that were evaluated.
        DataError: The data set cannot be loaded.
    """
    import torch

    from tscnc_deploy import data

    test = data.load(settings).test
    images, labels = test.batch(torch.arange(len(test)))
    return bundle.with_images(images.numpy(), labels.numpy())
