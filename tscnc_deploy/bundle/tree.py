"""The files of a bundle on disk: walks, reads and hashes them without trusting what is there."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from tscnc_deploy.bundle.manifest import MANIFEST, FileEntry
from tscnc_deploy.bundle.paths import parents
from tscnc_deploy.digests import digest_of_stream
from tscnc_deploy.errors import BundleError
from tscnc_deploy.text import quoted

# Not listed in the manifest, because it signs the manifest.
SIGNATURE = "model.sig"

_CHUNK = 1 << 20

# Do not follow links, and do not wait for the writer of a pipe. Windows has neither the flags nor the hazards.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file and folder in a bundle, folders before their contents, without the manifest and the signature.

    Lazy, so a caller that stops at the first unexpected entry does not read the rest.

    Yields:
        The path relative to the bundle, with "/" between its parts, and the entry, a regular file or a folder.

    Raises:
        BundleError: There is a symbolic link, a pipe, a socket or a device.
    """
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                path = prefix + entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    kind = "a symbolic link" if entry.is_symlink() else "neither a file nor a folder"
                    msg = f"{root}: {quoted(path)} is {kind}; a bundle contains only regular files"
                    raise BundleError(msg)
                if path != MANIFEST and (path != SIGNATURE or is_folder):
                    yield path, entry
                if is_folder:
                    waiting.append(path + "/")


def check_tree(root: Path, files: Mapping[str, FileEntry]) -> None:
    """Compares the names and sizes on disk with the manifest; reads no file.

    Raises:
        BundleError: A file or folder is not listed, a listed file is missing or has another size, or something is
            not a regular file.
    """
    folders = {folder for path in files for folder in parents(path)}
    found = set()
    for path, entry in walk(root):
        if entry.is_dir(follow_symlinks=False):
            if path not in folders:
                msg = f"{root}: the folder {quoted(path)} is not in {MANIFEST}"
                raise BundleError(msg)
            continue
        if path not in files:
            msg = f"{root}: the file {quoted(path)} is not in {MANIFEST}"
            raise BundleError(msg)
        _check_size(root, path, entry.stat(follow_symlinks=False).st_size, files[path])
        found.add(path)
    if missing := sorted(files.keys() - found):
        msg = f"{root}: {missing[0]} is missing; {MANIFEST} lists it"
        raise BundleError(msg)


def chunks(root: Path, path: str, entry: FileEntry) -> Iterator[bytes]:
    """The bytes of a listed file in chunks of at most 1 MiB; they are verified only once the iterator is exhausted.

    The digest decides: even if a folder was replaced by a link after `check_tree`, either the bytes are the listed
    ones or this raises.

    Raises:
        BundleError: The file is not a regular file, or its size or SHA-256 differs from the manifest.
    """
    digest = hashlib.sha256()
    with open_regular(root, path) as file:
        _check_size(root, path, os.fstat(file.fileno()).st_size, entry)
        remaining = entry.bytes
        while remaining and (chunk := file.read(min(_CHUNK, remaining))):
            digest.update(chunk)
            remaining -= len(chunk)
            yield chunk
    if digest.hexdigest() != entry.sha256:
        msg = f"{root}: {path} has changed: its SHA-256 is {digest.hexdigest()}, {MANIFEST} says {entry.sha256}"
        raise BundleError(msg)


def check_file(root: Path, path: str, entry: FileEntry) -> None:
    """Reads a listed file and compares its digest; raises like `chunks`."""
    for _ in chunks(root, path, entry):
        pass


def describe(root: Path, path: str) -> FileEntry:
    """The current digest and size of a file."""
    with open_regular(root, path) as file:
        return FileEntry(sha256=digest_of_stream(file), bytes=file.tell())


@contextmanager
def open_regular(root: Path, path: str) -> Iterator[BufferedReader]:
    """Opens a regular file of a bundle for reading.

    Raises:
        BundleError: The file is a symbolic link, a folder, a pipe, a socket or a device.
        OSError: The file is missing or unreadable.
    """
    try:
        descriptor = os.open(root / path, _FLAGS)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        msg = f"{root}: {path} is a symbolic link; a bundle contains only regular files"
        raise BundleError(msg) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        msg = f"{root}: {path} is not a regular file"
        raise BundleError(msg)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _check_size(root: Path, path: str, size: int, entry: FileEntry) -> None:
    if size != entry.bytes:
        msg = f"{root}: {path} has {size} bytes, {MANIFEST} says {entry.bytes}"
        raise BundleError(msg)
