"""The user's own images: train/ and test/, each with one folder per class."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tscnc_deploy.data.images import read_images
from tscnc_deploy.data.raw import Part, Raw
from tscnc_deploy.digests import digest_of_stream
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data

_EXTENSIONS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif"))
_SHOWN = 5
_log = logging.getLogger(__name__)


class ImageFolder:
    """root/train/CLASS/... and root/test/CLASS/...; images are found by their extension at any depth below CLASS.

    Names that begin with a dot are ignored. Images are grey if all of them are, otherwise RGB.
    """

    def files(self, settings: Data) -> Mapping[str, Path]:
        root = Path(settings.root)
        found = _scan(root)
        return {path.relative_to(root).as_posix(): path for paths in found.values() for path in paths}

    def read(self, settings: Data) -> Raw:
        found = _scan(Path(settings.root))
        classes = tuple(sorted({name for _, name in found}))
        label_of = {name: label for label, name in enumerate(classes)}
        entries = [(path, part, label_of[name]) for (part, name), paths in found.items() for path in paths]
        paths = [path for path, _, _ in entries]
        decoded = read_images(paths, side=settings.image_size)
        if decoded.corrupt:
            _refuse_or_skip({paths[index]: reason for index, reason in decoded.corrupt.items()}, settings)
        kept = [entry for entry, keep in zip(entries, decoded.kept, strict=True) if keep]
        represented = {(part, classes[label]) for _, part, label in kept}
        for part, name in found:
            if (part, name) not in represented:
                msg = f"{Path(settings.root, part, name)}: contains no readable image"
                raise DataError(msg)
        train, test = ([path for path, part, _ in kept if part == which] for which in ("train", "test"))
        _refuse_leakage(train, test)
        training = np.array([part == "train" for _, part, _ in kept])
        labels = np.array([label for _, _, label in kept], np.int64)
        return Raw(
            classes,
            Part(decoded.images[training], labels[training]),
            Part(decoded.images[~training], labels[~training]),
            skipped=tuple(str(paths[index]) for index in decoded.corrupt),
        )


def _scan(root: Path) -> dict[tuple[str, str], list[Path]]:
    """Image files in ascending order by ("train" or "test", class)."""
    if not root.is_dir():
        msg = f"data.root = {str(root)!r}: folder not found; it must contain train/ and test/ with one folder per class"
        raise DataError(msg)
    classes = {part: _class_names(root / part) for part in ("train", "test")}
    for part, other in (("train", "test"), ("test", "train")):
        lacking = [name for name in classes[other] if name not in classes[part]]
        if lacking:
            msg = f"{root / part}: lacks {_listed(lacking)}, which {root / other} has; both need the same classes"
            raise DataError(msg)
    found = {}
    for part, names in classes.items():
        for name in names:
            found[part, name] = _image_files(root / part / name)
            if not found[part, name]:
                msg = f"{root / part / name}: contains no images ({' '.join(sorted(_EXTENSIONS))})"
                raise DataError(msg)
    return found


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        msg = f"{folder}: folder not found; data.root must contain train/ and test/ with one folder per class"
        raise DataError(msg)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        has = f"has only one class folder, {names[0]!r}" if names else "has no class folders"
        msg = f"{folder}: {has}; a classifier needs at least two"
        raise DataError(msg)
    return names


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _EXTENSIONS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _refuse_or_skip(corrupt: Mapping[Path, str], settings: Data) -> None:
    listing = _listed([f"{path} ({reason})" for path, reason in corrupt.items()])
    if settings.corrupt_images == "refuse":
        msg = f"{len(corrupt)} corrupt: {listing}; fix or remove them, or set data.corrupt_images = 'skip'"
        raise DataError(msg)
    _log.warning("skipped %d corrupt: %s", len(corrupt), listing)


def _refuse_leakage(train: Iterable[Path], test: Iterable[Path]) -> None:
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in train:
        by_size[path.stat().st_size].append(path)
    # Only files of equal size can be equal, so few files are read again.
    suspects = [path for path in test if path.stat().st_size in by_size]
    twins = {_content(path): path for size in {path.stat().st_size for path in suspects} for path in by_size[size]}
    leaked = [f"{path} is {twins[content]}" for path in suspects if (content := _content(path)) in twins]
    if leaked:
        msg = f"{len(leaked)} test images are also training images: {_listed(leaked)}; remove one of each pair"
        raise DataError(msg)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return digest_of_stream(file)


def _listed(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
