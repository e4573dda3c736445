"""The processor that engines run on; a latency means little without it."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

from tscnc_deploy.threads import find_cores

# Instruction sets that determine the speed of convolutions and of int8 and bf16 arithmetic.
_INSTRUCTIONS = (
    "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8",
    "asimd", "sve", "bf16", "i8mm",
)  # fmt: skip


def processor() -> dict[str, Any]:
    """The processor's "model", "cores", "usable_cores" (those that this process may use) and "instructions"."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:  # not Linux
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    cores = find_cores()
    return {
        "model": model[1] if model else platform.processor() or platform.machine(),
        "cores": cores.machine,
        "usable_cores": cores.usable,
        "instructions": [name for name in _INSTRUCTIONS if name in present],
    }
