"""Tiny ImageNet (Stanford CS231n): 200 classes, 64x64 RGB; its labelled validation images are the test images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tscnc_deploy.data.images import read_images
from tscnc_deploy.data.raw import Part, Raw
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data

ORIGIN = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_FOLDER = "tiny-imagenet-200"
_ANNOTATIONS = "val/val_annotations.txt"


class TinyImageNet:
    """wnids.txt, words.txt, train/WNID/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt."""

    def files(self, settings: Data) -> Mapping[str, Path]:
        folder = _find(Path(settings.root))
        train, test = _labelled(folder)
        tables = [folder / "wnids.txt", folder / "words.txt", folder / _ANNOTATIONS]
        return {path.relative_to(folder).as_posix(): path for path in (*tables, *train, *test)}

    def read(self, settings: Data) -> Raw:
        folder = _find(Path(settings.root))
        train, test = _labelled(folder)
        return Raw(_class_names(folder), _part(train), _part(test))


def _find(root: Path) -> Path:
    for folder in (root / _FOLDER, root):
        if (folder / "wnids.txt").is_file():
            missing = [name for name in ("words.txt", _ANNOTATIONS) if not (folder / name).is_file()]
            if missing:
                msg = f"{folder}: {' and '.join(missing)} not found; get the data from {ORIGIN}"
                raise DataError(msg)
            return folder
    msg = f"data.root = {str(root)!r}: contains no {_FOLDER} with wnids.txt; unpack {ORIGIN} there"
    raise DataError(msg)


def _labelled(folder: Path) -> tuple[dict[Path, int], dict[Path, int]]:
    """Labels of the training files and of the test files."""
    wnids = _lines(folder / "wnids.txt")
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    train = {
        path: labels[wnid] for wnid in wnids for path in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
    }
    test = {}
    for number, line in enumerate(_lines(folder / _ANNOTATIONS), 1):
        name, wnid, *_ = (*line.split("\t"), "")
        path = folder / "val" / "images" / name
        if wnid not in labels or Path(name).name != name or not path.is_file():
            place = f"{folder / _ANNOTATIONS}: line {number} ({line!r})"
            msg = f"{place} must name an image in val/images and a class of wnids.txt"
            raise DataError(msg)
        test[path] = labels[wnid]
    return train, test


def _class_names(folder: Path) -> tuple[str, ...]:
    words = dict(line.split("\t", 1) for line in _lines(folder / "words.txt") if "\t" in line)
    wnids = _lines(folder / "wnids.txt")
    # The first of several synonyms; the identifier distinguishes the few classes that share it.
    names = [words.get(wnid, wnid).split(",")[0] for wnid in wnids]
    uses = Counter(names)
    return tuple(name if uses[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]


def _part(labelled: Mapping[Path, int]) -> Part:
    paths = list(labelled)
    if not paths:
        return Part(np.empty((0, 3, 64, 64), np.uint8), np.empty(0, np.int64))
    # Some of the JPEG files are grey.
    decoded = read_images(paths, side=None, grey=False)
    if decoded.corrupt:
        index, reason = next(iter(decoded.corrupt.items()))
        others = len(decoded.corrupt) - 1
        msg = f"{paths[index]}: is damaged ({reason}), as are {others} others; get the data from {ORIGIN}"
        raise DataError(msg)
    return Part(decoded.images, np.array(list(labelled.values()), np.int64))
