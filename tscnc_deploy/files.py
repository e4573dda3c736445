"""How files that may come from anyone are read: whole, once, and never more than a bound."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Protocol

from tscnc_deploy.errors import InputError


class Read(Protocol):
    """Gives the content of a file; a bundle's is given only when its digest is the listed one.

    Whoever parses a file takes such a function and parses the bytes that it gave: a path that is opened again may by
    then lead to something else.
    """

    def __call__(self, path: Path, limit: int) -> bytes:
        """The content of a file.

        Args:
            path: Of the file.
            limit: Most bytes that it may have.

        Raises:
            InputError: It is missing, unreadable, no regular file, or larger.
        """


def read_file(path: Path, limit: int) -> bytes:
    """`Read` from the disk."""
    try:
        # Before it is opened, as opening a pipe waits for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            msg = f"{path}: is not a regular file"
            raise InputError(msg)
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        msg = f"{path}: there is no such file"
        raise InputError(msg) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        msg = f"{path}: cannot be read: {reason}"
        raise InputError(msg) from error
    if len(data) > limit:
        msg = f"{path}: has {path.stat().st_size} bytes; at most {limit} are allowed"
        raise InputError(msg)
    return data
