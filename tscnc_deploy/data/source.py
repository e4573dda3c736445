"""The registry of data sets, and the digest of a recipe's data. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tscnc_deploy.data.cifar import CIFAR10, CIFAR100
from tscnc_deploy.data.digits import Digits
from tscnc_deploy.data.image_folder import ImageFolder
from tscnc_deploy.data.npz import Npz
from tscnc_deploy.data.raw import Source
from tscnc_deploy.data.svhn import Svhn
from tscnc_deploy.data.tiny_imagenet import TinyImageNet
from tscnc_deploy.digests import digest_of_bytes, digest_of_chunks, digest_of_stream
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data
from tscnc_deploy.text import not_among

_SOURCES: dict[str, Source] = {
    "digits": Digits(),
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "svhn": Svhn(),
    "tiny-imagenet": TinyImageNet(),
    "imagefolder": ImageFolder(),
    "npz": Npz(),
}


def source_of(dataset: str) -> Source:
    """The reader of a data set.

    Raises:
        DataError: The data set is unknown.
    """
    if dataset not in _SOURCES:
        msg = f"data.dataset = {dataset!r} {not_among(dataset, _SOURCES)}"
        raise DataError(msg)
    return _SOURCES[dataset]


@contextmanager
def unreadable_refused(settings: Data) -> Iterator[None]:
    """Converts an OSError while reading the data into a DataError."""
    try:
        yield
    except OSError as error:
        msg = f"{error.filename or settings.root}: cannot be read: {error.strerror or error}"
        raise DataError(msg) from error


def digest(settings: Data) -> str:
    """SHA-256 of the data's files: their names within the data set and their content.

    It does not depend on the location of the files or on any other setting. Missing data are downloaded first if
    `settings.download` allows it.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        DataError: The data set is unknown, or a file is missing or cannot be read.
    """
    parts = []
    source = source_of(settings.dataset)
    with unreadable_refused(settings):
        for name, path in sorted(source.files(settings).items()):
            with path.open("rb") as file:
                # Two digests of fixed length per file make clear where a name ends and a content begins.
                parts += [digest_of_bytes(name.encode(errors="surrogateescape")), digest_of_stream(file)]
    return digest_of_chunks(map(bytes.fromhex, parts))
