"""The package stage's files about a bundle's provenance: versions, bill of materials, provenance, reproduce.sh."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tscnc_deploy import strict_json
from tscnc_deploy.arch import parse_arch
from tscnc_deploy.bundle.manifest import PROVENANCE, SBOM, SCRIPT, TWIN
from tscnc_deploy.digests import digest_of_file
from tscnc_deploy.pipeline.stages.base import Context, network_code, training_data, utc_now
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.versions import python_and_system

# The stage that evaluates the engines reaches every library that the stages before it compute with.
_LAST_THAT_COMPUTES = Path(__file__).with_name("reverify.py")


def versions() -> dict[str, str]:
    """Versions of Python, the operating system and the installed libraries that may change figures, by name."""
    from tscnc_deploy.pipeline.fingerprint import libraries  # which imports the stages

    return python_and_system() | {name: found for name, found in libraries(_LAST_THAT_COMPUTES).items() if found}


def write_origin(context: Context, shipped: Recipe, environment: Mapping[str, str]) -> None:
    """Writes the bill of materials, reproduce.sh and, as the last file before the manifest, the provenance.

    Args:
        context: Context of the stage; all other files are already in its folder.
        shipped: The recipe as shipped in the bundle.
        environment: The environment as in the record.
    """
    from tscnc_deploy.bundle.provenance.code import code_version
    from tscnc_deploy.bundle.provenance.distributions import build_distributions
    from tscnc_deploy.bundle.provenance.sbom import render_sbom
    from tscnc_deploy.bundle.provenance.script import render_script
    from tscnc_deploy.bundle.provenance.slsa import Build, provenance
    from tscnc_deploy.bundle.writer import digests

    out, code, distributions = context.out, code_version(), build_distributions(_extras(context.recipe))
    hardware = _hardware(context, environment["device"])
    weights = digest_of_file(out / TWIN)
    (out / SBOM).write_bytes(render_sbom(shipped.name, weights, distributions))
    script = render_script(
        shipped, code, distributions,
        python=environment["python"], device=context.device, threads=hardware["threads"],
    )  # fmt: skip
    (out / SCRIPT).write_text(script, encoding="utf-8")
    started = min((times.started for times in context.earlier.values() if times.started), default=None)
    build = Build(
        seed=shipped.seed,
        dataset=shipped.data.dataset,
        data_sha256=training_data(context.recipe)["digest"],
        checkpoint_sha256=_checkpoint(context.recipe),
        code=code,
        network=network_code(context.recipe),
        environment={name: said for name, said in environment.items() if name != "device"},
        hardware=hardware,
        started=started,
        finished=not_before(started, utc_now()),
    )
    files = {path: entry.sha256 for path, entry in digests(out).items()}
    (out / PROVENANCE).write_bytes(strict_json.dumps(provenance(build, files)))


def not_before(started: str | None, now: str) -> str:
    """The current time, but not before the start: a clock may have been set back since then.

    Args:
        started: A time in the format of `utc_now`; None if it is not known.
        now: Another one.
    """
    return max(started or now, now)


def _hardware(context: Context, device: str) -> dict[str, Any]:
    """What rounding may depend on: the vector instructions that PyTorch uses, and the number of threads."""
    import torch

    return {
        "device": device,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        # Earlier stages of a build that was continued elsewhere may have had other values.
        "threads_by_stage": {name: times.threads for name, times in context.earlier.items() if times.threads},
    }


def _extras(recipe: Recipe) -> tuple[str, ...]:
    return ("timm",) if parse_arch(recipe.model.arch).source == "timm" else ()


def _checkpoint(recipe: Recipe) -> str | None:
    if recipe.model.checkpoint is None:
        return None
    return digest_of_file(Path(recipe.model.checkpoint))
