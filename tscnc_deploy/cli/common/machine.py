"""Information about this machine and its installed packages, for `tscnc-deploy doctor`."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import warnings
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from tscnc_deploy.engines.processor import processor
from tscnc_deploy.threads import find_cores, thread_count
from tscnc_deploy.versions import installed_version, is_older

# Module -> requirement for pip, as in the dependencies of pyproject.toml; for onnxruntime `onnxruntime_requirement`.
REQUIRED = {
    "torch": "torch>=2.11",
    "torchvision": "torchvision>=0.26",
    "onnx": "onnx>=1.18",
    "onnxscript": "onnxscript>=0.6.2",
    "numpy": "numpy>=1.26",
    "scipy": "scipy>=1.11",
    "sklearn": "scikit-learn>=1.4",
    "joblib": "joblib>=1.3",
    "PIL": "pillow>=10",
    "click": "click>=8.2",
    "rich": "rich>=13",
    "pydantic": "pydantic>=2.7",
    "safetensors": "safetensors>=0.4.5",
    "jinja2": "jinja2>=3.1",
    "matplotlib": "matplotlib>=3.8",
    "filelock": "filelock>=3.13",
    "packaging": "packaging>=23",
    "platformdirs": "platformdirs>=4",
    "cyclonedx": "cyclonedx-python-lib>=11.6",
}

# Extra -> the distributions that it installs.
EXTRAS = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx",),
    "parquet": ("pyarrow",),
    "ray": ("ray",),
    "sign": ("model-signing", "pyopenssl"),
    "serve": ("starlette", "httptools", "uvloop", "grpcio", "orjson", "prometheus-client"),
}


def onnxruntime_requirement() -> str:
    """The one distribution of onnxruntime for this platform; its CPU provider does not need a GPU."""
    gpu_wheels = (platform.system(), platform.machine()) == ("Linux", "x86_64") or platform.system() == "Windows"
    return "onnxruntime-gpu>=1.22" if gpu_wheels else "onnxruntime>=1.22"


def system() -> dict[str, Any]:
    """Python, operating system, processor, and the bytes of memory and of disk in the current folder."""
    disk = shutil.disk_usage(Path.cwd())
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "os": platform.platform(),
        "cpu": processor() | _time_of_cores(),
        "memory": _memory(),
        "disk": {"folder": str(Path.cwd()), "total": disk.total, "free": disk.free},
    }


def _time_of_cores() -> dict[str, Any]:
    """What limits the number of threads, how busy the machine is, and the "threads" that will compute."""
    cores = find_cores()
    found = {"affinity": cores.affinity, "physical": cores.physical}
    return found | {"quota": cores.quota, "load": cores.load, "threads": thread_count()}


def package(module: str, requirement: str) -> dict[str, Any]:
    """Whether a required package is installed, new enough and can be imported: {"version", "problem"}, may be None.

    Args:
        module: Module to import.
        requirement: Requirement for pip, such as "torch>=2.11".
    """
    distribution, _, least = requirement.partition(">=")
    found = installed_version(distribution)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(module)
    except Exception as error:  # a broken binary can raise almost anything, which doctor must report
        absent = isinstance(error, ModuleNotFoundError) and error.name == module
        lines = str(error).splitlines() or [type(error).__name__]
        return {"version": found, "problem": "is not installed" if absent else f"does not import: {lines[0]}"}
    if found is not None and is_older(found, least):
        return {"version": found, "problem": f"is version {found}, older than {least}"}
    return {"version": found, "problem": None}


def onnxruntime_distributions() -> list[str]:
    """The installed distributions with a module named onnxruntime; more than one overwrite each other's files."""
    return sorted(set(packages_distributions().get("onnxruntime", ())))


def cuda() -> dict[str, Any]:
    """The NVIDIA driver according to the kernel, and CUDA and the GPUs according to torch, which must be importable."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    return {
        "driver": _nvidia_driver(),
        "torch_cuda": torch.version.cuda,
        "available": available,
        "warning": str(caught[0].message).splitlines()[0] if caught else None,
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())] if available else [],
    }


def _gpu(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory,
    }


def _nvidia_driver() -> str | None:
    try:
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", Path("/proc/driver/nvidia/version").read_text("utf-8"))
    except OSError:
        return None
    return found[0] if found else None


def _memory() -> dict[str, int | None]:
    try:
        text = Path("/proc/meminfo").read_text("utf-8")
    except OSError:
        return {"total": None, "free": None}
    kib = {name: int(amount) for name, amount in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    return {"total": kib["MemTotal"] * 1024, "free": kib.get("MemAvailable", kib["MemFree"]) * 1024}
