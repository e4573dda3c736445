"""TensorRT and TensorRT-RTX: two modules with the same interface, imported only when needed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

from tscnc_deploy.engines.target import Target
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.text import any_of
from tscnc_deploy.versions import is_older

# Engine kind -> module, its distribution on package indexes, and the oldest version that this package supports.
_LIBRARIES: dict[str, tuple[str, str, str]] = {
    "tensorrt": ("tensorrt", "tensorrt", "10.12"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt-rtx", "1.2"),
}


@cache
def load(kind: str) -> ModuleType:
    """Imports the library of an engine kind.

    Args:
        kind: "tensorrt" or "tensorrt-rtx".

    Raises:
        UnavailableError: It is not installed, does not load, or is too old; the message says what to install.
    """
    module, distribution, least = _LIBRARIES[kind]
    install = f"run: pip install --upgrade 'tscnc-deploy[{distribution}]'"
    try:
        library = import_module(module)
    except ModuleNotFoundError as error:
        msg = f"{distribution} is not installed; {install}"
        raise UnavailableError(msg) from error
    except (ImportError, OSError, RuntimeError) as error:
        msg = f"{distribution} does not load ({str(error).splitlines()[0]}); {install}"
        raise UnavailableError(msg) from error
    if is_older(library.__version__, least):
        msg = f"{distribution} {library.__version__} is older than {least}; {install}"
        raise UnavailableError(msg)
    return library


def library_problem(kind: str) -> str | None:
    """Why the library of an engine kind cannot be used and which command fixes it; None if it can."""
    try:
        load(kind)
    except UnavailableError as error:
        return str(error)
    return None


def gpu_capability() -> str | None:
    """The compute capability of the GPU that torch would use, such as "SM89"; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"SM{major}{minor}"


def gpu_name() -> str:
    """The name of the GPU that torch would use."""
    import torch

    return torch.cuda.get_device_name()


def known_capabilities(library: ModuleType) -> list[str]:
    """The GPUs that TensorRT-RTX can build for on other machines."""
    return [name for name in library.ComputeCapability.__members__ if name.startswith("SM")]


def check_capabilities(library: ModuleType, target: Target) -> None:
    """Rejects a target with GPUs that TensorRT-RTX does not support.

    Raises:
        InputError: A GPU is not supported; the message names the first one.
    """
    known = known_capabilities(library)
    for name in target.capabilities:
        if name not in known:
            msg = f"target {target.name}: capabilities: {name} is not {any_of(known)}, which tensorrt-rtx builds for"
            raise InputError(msg)
