"""Opening a bundle: the checks before anything in it is used."""

from __future__ import annotations

import os
from pathlib import Path

from tscnc_deploy.bundle.errors import bundle_errors
from tscnc_deploy.bundle.manifest import MANIFEST, Manifest, parse_manifest
from tscnc_deploy.bundle.reader import Bundle
from tscnc_deploy.bundle.tree import check_file, check_tree, open_regular
from tscnc_deploy.digests import digest_of_bytes
from tscnc_deploy.errors import BundleError
from tscnc_deploy.record.limits import MAX_MANIFEST_BYTES

_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z"}


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Opens a bundle after checking every file in it against its manifest.

    Safe for bundles from untrusted sources: sizes are compared before anything is read, files are read in bounded
    memory, links are not followed, and nothing is executed, unpickled or written.

    Args:
        path: The folder that holds manifest.json.

    Raises:
        BundleError: It is not a bundle, it is damaged or malicious, or this version does not know its schema; the
            message names the bundle, the file and what differs.
    """
    root = Path(path).absolute()
    with bundle_errors(root):
        _refuse_other_than_folder(root)
        manifest, digest = _read_manifest(root)
        check_tree(root, manifest.files)
        for name, entry in manifest.files.items():
            check_file(root, name, entry)
    return Bundle(root, manifest, digest)


def given_folder(path: Path) -> Path:
    """The folder of a bundle, or of the bundle in a run's folder; `open_bundle` checks whether it exists."""
    inside = path / "bundle"
    is_run = not (path / MANIFEST).exists() and (inside / MANIFEST).exists()
    return inside if is_run else path


def open_given(path: Path) -> Bundle:
    """Opens a bundle, or the bundle of a run's folder.

    Raises:
        BundleError: It does not exist, or it is damaged.
    """
    return open_bundle(given_folder(path))


def _refuse_other_than_folder(root: Path) -> None:
    if root.is_dir():
        return
    if not root.exists():
        msg = f"{root}: bundle not found"
    elif root.suffix in _ARCHIVES:
        msg = f"{root}: is an archive; unpack it and give the folder that contains {MANIFEST}"
    else:
        msg = f"{root}: is not a folder; a bundle is the folder that contains {MANIFEST}"
    raise BundleError(msg)


def _read_manifest(root: Path) -> tuple[Manifest, str]:
    """The manifest, and the SHA-256 of its bytes."""
    try:
        with open_regular(root, MANIFEST) as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        msg = f"{root}: is not a bundle: it contains no {MANIFEST}"
        raise BundleError(msg) from None
    if len(data) > MAX_MANIFEST_BYTES:
        msg = f"{root}: {MANIFEST} is longer than {MAX_MANIFEST_BYTES} bytes"
        raise BundleError(msg)
    try:
        return parse_manifest(data), digest_of_bytes(data)
    except ValueError as error:
        msg = f"{root}: {MANIFEST} {error}"
        raise BundleError(msg) from None
