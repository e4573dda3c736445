"""A bundle's engine as a KServe InferenceService that Triton runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.errors import InputError
from tscnc_deploy.serving.triton import Options, describe, finished_folder, write_triton

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle


def write_kserve(bundle: Bundle, engine: str, folder: Path, options: Options, storage: str) -> Path:
    """Writes inferenceservice.yaml and, next to it, the model repository to be uploaded to `storage`.

    Args:
        bundle: An opened bundle.
        engine: Name of one of its engines.
        folder: Folder to create; must not exist.
        options: See `triton.Options`.
        storage: storageUri of the repository, such as "s3://models/digits" or "pvc://models/digits".

    Returns:
        The manifest's path.

    Raises:
        BundleError: The engine does not exist or is damaged.
        InputError: Triton cannot run the engine, `storage` is not a URI, or the folder exists.
        StorageError: The folder cannot be written.
    """
    from tscnc_deploy.report.templates import fill

    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", storage):
        msg = f"--storage-uri {storage}: not a URI; write one such as s3://models/digits or pvc://models/digits"
        raise InputError(msg)
    with finished_folder(folder) as partial:
        write_triton(bundle, engine, partial / "repository", options)
        facts = describe(bundle, engine)
        manifest = fill(
            "kserve.yaml.j2", autoescape=False, **facts, name=_resource_name(bundle.manifest.name), storage=storage
        )
        (partial / "inferenceservice.yaml").write_text(manifest, "utf-8")
    return folder / "inferenceservice.yaml"


def _resource_name(name: str) -> str:
    """A valid Kubernetes name: at most 63 lower-case letters, digits and hyphens, starting with a letter."""
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return (cleaned if cleaned[:1].isalpha() else f"model-{cleaned}")[:63].rstrip("-")
