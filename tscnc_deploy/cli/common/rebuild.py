"""Rebuilds a bundle from its recipe, for `check --reproduce` to compare the two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check import CheckRequest
    from tscnc_deploy.progress import Progress
    from tscnc_deploy.recipe import Recipe


def rebuild(folder: Path, request: CheckRequest, progress: Progress, code: str | None, bundle: Bundle) -> Bundle:
    """Builds the given bundle's recipe in a run folder, unless the folder already contains a finished build.

    Runs nothing from the bundle, not even its reproduce.sh.

    Args:
        folder: Folder of the run.
        request: Sets the device, the data set and the data folder.
        progress: Reports the progress of the build.
        code: FILE.py or PACKAGE.MODULE with the network's code, if it is not built in and no library's: none is taken
            from a bundle, or because a bundle names it.
        bundle: An opened bundle.

    Returns:
        The rebuilt bundle, opened.

    Raises:
        InputError: The recipe needs data, weights or code that are missing here, the code is not the one that the
            bundle was built with, or the folder cannot be written.
        UnavailableError: This machine lacks what an engine needs to be built.
    """
    import torch

    from tscnc_deploy.bundle import open_bundle
    from tscnc_deploy.bundle.manifest import MANIFEST
    from tscnc_deploy.bundle.opening import given_folder
    from tscnc_deploy.devices import describe_device
    from tscnc_deploy.pipeline.run import Run
    from tscnc_deploy.pipeline.stages import STAGES

    finished = given_folder(folder)
    if (finished / MANIFEST).exists():
        return open_bundle(finished)
    recipe = bundle.load_recipe(dataset=request.dataset, data_root=request.data_root)
    recipe = _with_code(recipe, code, bundle)
    device = describe_device(torch.device(request.device))
    run = Run(folder, STAGES, device=request.device, device_class=device)
    run.prepare(0)
    run.build(recipe, progress)
    return open_bundle(folder / "bundle")


def _with_code(recipe: Recipe, code: str | None, bundle: Bundle) -> Recipe:
    """The recipe with the network's code as whoever checks names it."""
    network = parse_arch(recipe.model.arch)
    if not network.own:
        if code is not None:
            msg = f"--code {code}: the network {network.public} needs no code of yours; leave --code out"
            raise InputError(msg)
        return recipe
    if code is None:
        msg = (
            f"{bundle.path}: its network is {escaped(network.public)}, its maker's own code, which no bundle carries; "
            "give your copy of it with --code FILE.py, or --code PACKAGE.MODULE if it is installed"
        )
        raise InputError(msg)
    given = parse_arch(f"{code}:{network.name}")
    if given.public != network.public:
        msg = f"--code {code}: the network of the bundle is {escaped(network.public)}, not {given.public}"
        raise InputError(msg)

    from tscnc_deploy.models.own import code_digest

    found, recorded = code_digest(given)["sha256"], _recorded_code(bundle)
    if found != recorded:
        msg = (
            f"--code {code}: has the SHA-256 {found}, but the bundle was built with {recorded or 'code of none'}: "
            "it is another version of the code"
        )
        raise InputError(msg)
    model = recipe.model.model_copy(update={"arch": f"{code}:{network.name}"})
    return recipe.model_copy(update={"model": model})


def _recorded_code(bundle: Bundle) -> str | None:
    """The digest of the network's code in the provenance; None if there is none."""
    from tscnc_deploy import strict_json
    from tscnc_deploy.bundle.manifest import PROVENANCE

    if PROVENANCE not in bundle.manifest.files:
        return None
    try:
        document: Any = strict_json.loads(bundle.read(PROVENANCE))
        used = document["predicate"]["buildDefinition"]["resolvedDependencies"]
        digests = [entry["digest"]["sha256"] for entry in used if entry["name"] == "network"]
    except (KeyError, TypeError, ValueError):
        return None
    return escaped(str(digests[0])) if digests else None
