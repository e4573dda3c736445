"""Reads untrusted files (completely, once, and up to a size limit), and writes files atomically."""

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
    """Returns the content of a file; for a file of a bundle, only if its digest matches the manifest.

    Parsers take such a function and parse the bytes that it returned, because a path that is opened again may point
    to something else by then.
    """

    def __call__(self, path: Path, limit: int) -> bytes:
        """The content of a file.

        Args:
            path: Path of the file.
            limit: Maximum size in bytes.

        Raises:
            InputError: It is missing, unreadable, not a regular file, or larger.
        """


def read_file(path: Path, limit: int) -> bytes:
    """`Read` from the disk."""
    try:
        # Checked before it is opened, because opening a pipe waits for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            msg = f"{path}: is not a regular file"
            raise InputError(msg)
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        msg = f"{path}: file not found"
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
    """Writes a file atomically; text in UTF-8.

    Raises:
        StorageError: It cannot be written; an existing file is unchanged.
    """
    with open_atomic(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Context with a file to write to, which replaces the path only after everything is written to disk.

    Until then it has another name in the same folder, because a rename is only atomic within one file system. For a
    link, its target is replaced; a pipe or a device, such as /dev/stdout, is written to directly.

    Raises:
        StorageError: It cannot be written; an existing file is unchanged, as after any other exception.
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
    # Truncated, because the name may already have the maximum length.
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}-{threading.get_native_id()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        # After success the name no longer exists; an unreadable folder must not hide the original error.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def cache_folder(purpose: str) -> Path:
    """The user's cache folder for one purpose, which may not exist yet; in XDG_CACHE_HOME, else the system's default.

    Args:
        purpose: Name of the folder inside the cache of this package.

    Raises:
        StorageError: The user has no home folder, as in a container that runs under a bare user ID.
    """
    try:
        folder = user_cache_path("tscnc-deploy", appauthor=False)
    except RuntimeError:
        folder = Path("~")
    # Older versions of platformdirs leave an unresolved "~" in the path, which would be a folder in the current one.
    if not folder.is_absolute():
        msg = f"user {os.getuid()} has no home folder for the cache; set XDG_CACHE_HOME to a writable folder"
        raise StorageError(msg)
    return folder / purpose
