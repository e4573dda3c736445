"""How files are read that may come from anyone (whole, once, and never more than a bound), and how they are written."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from platformdirs import user_cache_path

from tscnc_deploy.errors import InputError, StorageError


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
            InputError: It is missing, unreadable, not a regular file, or larger.
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


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a file that is there as a whole or not at all, whenever the process ends; text in UTF-8.

    Raises:
        StorageError: It cannot be written; what the path held before is unchanged.
    """
    with open_atomic(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces the path only after everything is written and on the disk.

    Until then it has another name in the same folder, as a rename is atomic within one file system only. What a link
    leads to is replaced, not the link; a pipe or a device, such as /dev/stdout, is written to as it is.

    Raises:
        StorageError: It cannot be written; what the path held before is unchanged, as after any other exception.
    """
    try:
        if _is_special(path):
            with path.open("wb") as file:
                yield file
        else:
            with _replacing(Path(os.path.realpath(path))) as file:
                yield file
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror or error}"
        raise StorageError(msg) from error


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    # Cut, as the longest name that a folder can hold leaves no room for more.
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}-{threading.get_native_id()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        # After success the name is gone already; a folder that cannot be read must not hide what went wrong.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def cache_folder(purpose: str) -> Path:
    """The folder of this user's cache for one purpose, which may not exist yet: XDG_CACHE_HOME, else the system's.

    Args:
        purpose: Name of the folder inside the cache of this package.

    Raises:
        StorageError: The user has no home folder, as in a container that runs under a number without a name.
    """
    try:
        folder = user_cache_path("tscnc-deploy", appauthor=False)
    except RuntimeError:
        folder = Path("~")
    # Older versions of platformdirs leave a "~" that nothing resolves in the path: a folder in the current one.
    if not folder.is_absolute():
        msg = f"user {os.getuid()} has no home folder for the cache; set XDG_CACHE_HOME to a folder that can be written"
        raise StorageError(msg)
    return folder / purpose
