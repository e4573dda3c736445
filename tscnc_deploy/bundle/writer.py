"""Sealing: turns a folder of finished files into a bundle."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from tscnc_deploy.bundle.manifest import MANIFEST, Contents, FileEntry, Manifest
from tscnc_deploy.bundle.tree import SIGNATURE, describe, walk
from tscnc_deploy.errors import BundleError
from tscnc_deploy.files import write_atomic
from tscnc_deploy.record.limits import MAX_MANIFEST_BYTES
from tscnc_deploy.record.problems import first_problem
from tscnc_deploy.versions import own_version


def seal(folder: Path, contents: Contents) -> Manifest:
    """Hashes every file in a folder and writes the manifest, which makes the folder a bundle.

    The manifest is written last, with an atomic rename, so a folder that has one is complete. It holds no timestamps,
    so the same files give the same bytes. Sealing again replaces the manifest and removes an existing signature, which
    no longer matches.

    Args:
        folder: Contains every file of the bundle: `manifest.REQUIRED` and engines/TARGET for every engine.
        contents: The build's part of the manifest.

    Returns:
        The manifest that was written.

    Raises:
        BundleError: `open_bundle` would refuse the folder: a link, an empty folder, an invalid name, a missing required
            file or engine.
        StorageError: The manifest cannot be written.
    """
    for left in folder.glob(f".{MANIFEST}.*.partial"):  # left by a process killed while it wrote the manifest
        left.unlink()
    if not (folder / SIGNATURE).is_dir():
        (folder / SIGNATURE).unlink(missing_ok=True)
    try:
        manifest = Manifest(
            **dict(contents),
            files=digests(folder),
            tscnc_deploy=own_version(),
        )
    except ValidationError as error:
        msg = f"{folder}: cannot become a bundle: {first_problem(error)}"
        raise BundleError(msg) from None
    data = manifest.to_bytes()
    if len(data) > MAX_MANIFEST_BYTES:
        msg = f"{folder}: cannot become a bundle: its manifest has {len(data)} bytes, more than {MAX_MANIFEST_BYTES}"
        raise BundleError(msg)
    write_atomic(folder / MANIFEST, data)
    return manifest


def digests(folder: Path) -> dict[str, FileEntry]:
    """Digest and size of every file of a future bundle, by path.

    Raises:
        BundleError: A link, or an empty folder.
    """
    return {path: describe(folder, path) for path in _files(folder)}


def _files(folder: Path) -> list[str]:
    files, folders = [], set()
    for path, entry in walk(folder):
        if entry.is_dir(follow_symlinks=False):
            folders.add(path)
        else:
            files.append(path)
    if empty := sorted(folder for folder in folders if not any(path.startswith(folder + "/") for path in files)):
        msg = f"{folder}: cannot become a bundle: the folder {empty[0]} is empty"
        raise BundleError(msg)
    return sorted(files)
