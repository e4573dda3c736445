"""The evidence images of a bundle that holds none, taken from the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.recipe import Data


def bring_images(bundle: Bundle, settings: Data) -> Bundle:
    """The same bundle with the evidence images that it withholds.

    Args:
        bundle: An opened bundle that holds digests of its evidence images only.
        settings: The data section of the bundle's recipe, with the place where the data are on this machine; the
            images are the ones that it names, in its order.

    Raises:
        BundleError: It brings its images, or those of the data set are not the ones that were evaluated.
        DataError: The data set cannot be loaded.
    """
    import torch

    from tscnc_deploy import data

    test = data.load(settings).test
    images, labels = test.batch(torch.arange(len(test)))
    return bundle.with_images(images.numpy(), labels.numpy())
