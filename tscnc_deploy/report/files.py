"""Files that are either whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tscnc_deploy.errors import InputError, StorageError


def check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuses a path that ends in none of the suffixes, such as ".csv".

    Raises:
        InputError: Names those that are possible.
    """
    if path.suffix.lower() not in suffixes:
        msg = f"{path}: the name of this file must end in {' or '.join(suffixes)}"
        raise InputError(msg)


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the path's place only when all of it was written.

    Raises:
        StorageError: It cannot be written; what stood there is as it was.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror or error}"
        raise StorageError(msg) from error
    finally:
        # After a failure only: a finished file has been renamed.
        if partial.is_file():
            partial.unlink(missing_ok=True)
