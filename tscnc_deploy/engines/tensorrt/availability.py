"""Whether this machine can build and run TensorRT engines, and what is missing."""

from __future__ import annotations

from tscnc_deploy.engines.target import Target
from tscnc_deploy.engines.tensorrt import library


def can_export(target: Target) -> str | None:
    """Why this machine cannot build engines of a target, see `registry.can_export`."""
    problem = library.library_problem(target.engine)
    if problem or target.capabilities or library.gpu_capability():
        return problem
    if target.engine == "tensorrt":
        return "tensorrt builds an engine on the GPU that runs it, and no GPU is found; tensorrt-rtx builds without one"
    return "its capabilities are empty, which means this machine's GPU, and no GPU is found; add some, such as SM89"


def can_run(target: Target) -> str | None:
    """Why this machine cannot run engines of a target, see `registry.can_run`."""
    problem = library.library_problem(target.engine)
    if problem:
        return problem
    gpu = library.gpu_capability()
    if gpu is None:
        return "needs an NVIDIA GPU, and torch finds none"
    if target.capabilities and gpu not in target.capabilities and not target.portable:
        return f"this machine's GPU, {library.gpu_name()}, is {gpu}; add it to the target's capabilities"
    return None
