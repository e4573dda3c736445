"""Decodes many image files into one array."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tscnc_deploy.errors import DataError

# The exceptions of Pillow's parsers on damaged or malicious files.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
_GREY_MODES = ("1", "L", "LA", "La")


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images of the readable files, in the given order, and why the other files were not readable.

    Attributes:
        images: uint8 [N, C, H, W], C = 1 or 3.
        kept: bool [files], true for the N readable files.
        corrupt: The reason by index of the file, for the others.
    """

    images: NDArray[np.uint8]
    kept: NDArray[np.bool_]
    corrupt: dict[int, str]


def read_images(paths: Sequence[Path], *, side: int | None, grey: bool | None = None) -> Decoded:
    """Decodes the first frame of every file; drops alpha, ignores the EXIF orientation and converts 16 bits to 8.

    Args:
        paths: At least one file.
        side: Side in pixels that all images are resized to (bilinear with antialiasing); None does not resize.
        grey: One channel instead of three; None uses one if every readable image is grey.

    Raises:
        DataError: Sizes differ and `side` is None, or no file is an image.
    """
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(_header, paths))
        corrupt = {index: header for index, header in enumerate(headers) if isinstance(header, str)}
        good = {index: header for index, header in enumerate(headers) if not isinstance(header, str)}
        if not good:
            msg = f"{paths[0]}: is not an image ({corrupt[0]}), and neither is any of the other files"
            raise DataError(msg)
        if grey is None:
            grey = all(is_grey for is_grey, _ in good.values())
        size = (side, side) if side else _common_size(paths, {index: header[1] for index, header in good.items()})
        images = np.zeros((len(paths), 1 if grey else 3, size[1], size[0]), np.uint8)
        failures = pool.map(lambda index: _decode_into(images[index], paths[index], size), good)
        corrupt |= {index: reason for index, reason in zip(good, failures, strict=True) if reason}
    kept = np.ones(len(paths), dtype=bool)
    kept[list(corrupt)] = False
    return Decoded(images if kept.all() else images[kept], kept, dict(sorted(corrupt.items())))


def _header(path: Path) -> tuple[bool, tuple[int, int]] | str:
    try:
        with Image.open(path) as image:
            return image.mode in _GREY_MODES or image.mode.startswith("I"), image.size
    except _DAMAGE as error:
        return _reason(error, path)


def _common_size(paths: Sequence[Path], sizes: dict[int, tuple[int, int]]) -> tuple[int, int]:
    first = {size: paths[index] for index, size in reversed(sizes.items())}
    if len(first) > 1:
        examples = ", ".join(f"{width}x{height} ({first[width, height]})" for width, height in sorted(first)[:5])
        msg = (
            f"images have {len(first)} sizes (width x height): {examples}{', ...' if len(first) > 5 else ''}; "
            "set data.image_size to the side in pixels to resize them to"
        )
        raise DataError(msg)
    return next(iter(first))


def _decode_into(target: NDArray[np.uint8], path: Path, size: tuple[int, int]) -> str | None:
    try:
        with Image.open(path) as image:
            shallow = _eight_bits(image) if image.mode.startswith(("I", "F")) else image
            converted = shallow.convert("L" if len(target) == 1 else "RGB")
            if converted.size != size:
                converted = converted.resize(size, Image.Resampling.BILINEAR)
            pixels = np.asarray(converted)
    except _DAMAGE as error:
        return _reason(error, path)
    target[:] = pixels[None] if len(target) == 1 else pixels.transpose(2, 0, 1)
    return None


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    # Pillow would clip at 255, turning nearly all of a 16-bit image white.
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        msg = f"32-bit pixels (mode {image.mode}); use 8 or 16 bits"
        raise ValueError(msg)
    return Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))


def _reason(error: Exception, path: Path) -> str:
    # Some of Pillow's messages repeat the path, which our messages begin with.
    return str(error).replace(f" {str(path)!r}", "") or type(error).__name__
