"""Clock rates of the processor and the GPU, recorded with timings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from statistics import mean
from typing import Any

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_QUERY = ("name", "clocks.sm", "clocks.max.sm", "clocks.mem", "persistence_mode")


def clocks() -> dict[str, Any]:
    """Current clock rates; None where the system does not report them.

    Returns:
        "cpu_mhz" (mean over the cores), "cpu_governor", and "gpu" (from nvidia-smi, for the first GPU).
    """
    return {"cpu_mhz": _cpu_mhz(), "cpu_governor": _read(_GOVERNOR), "gpu": _gpu()}


def _cpu_mhz() -> float | None:
    found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", _read(Path("/proc/cpuinfo")) or "", re.MULTILINE)
    return round(mean(map(float, found)), 1) if found else None


def _gpu() -> dict[str, str] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(_QUERY, (value.strip() for value in done.stdout.split(",")), strict=False))


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None
