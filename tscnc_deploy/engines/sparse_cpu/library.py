"""The compiled core of the sparse CPU engine, reached through its C functions (csrc/api.h).

The core is a plain shared library, not a Python extension: one build serves every Python version, and ctypes lets other
threads run while it computes.
"""

from __future__ import annotations

import ctypes
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tscnc_deploy.engines.base import Array
from tscnc_deploy.errors import InputError, UnavailableError

INSTRUCTIONS = ("auto", "avx512", "avx2", "neon", "portable")
"""Names of instruction sets; "auto" uses the best one that the processor supports."""

_VERSION = 2
_MESSAGE_BYTES = 512
_INSTALL = (
    "install a C++ compiler (Debian: apt install g++) and run: pip install --force-reinstall --no-deps tscnc-deploy"
)


def instructions_for(name: str) -> str:
    """The instruction set that a name of `INSTRUCTIONS` selects on this machine.

    Raises:
        UnavailableError: The core was not built, or this processor lacks the instruction set.
    """
    found = _library().scpu_instructions(name.encode())
    if found is None:
        msg = f'this processor does not support instructions = "{name}"; use instructions = "auto"'
        raise UnavailableError(msg)
    return bytes(found).decode()


def peak_multiply_adds(instructions: str = "auto", seconds: float = 0.2) -> float:
    """Peak MACs per second of one thread: the best of several short runs."""
    name = instructions_for(instructions).encode()
    rounds, best, end = 100_000, 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        done = _library().scpu_spin(name, rounds)
        best = max(best, done / (time.perf_counter() - start))
    return best


class Core:
    """A program opened by the core.

    Args:
        program: What `program.write_program` wrote.
        instructions: One of `INSTRUCTIONS`.
        threads: Threads of one call, from 1 to 256.

    Raises:
        InputError: The program is invalid.
        UnavailableError: See `instructions_for`.
    """

    def __init__(self, program: bytes, instructions: str, threads: int) -> None:
        self._handle = None
        self.instructions = instructions_for(instructions)
        self._library = _library()
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        self._handle = self._library.scpu_open(
            program, len(program), instructions.encode(), threads, message, _MESSAGE_BYTES
        )
        if not self._handle:
            raise InputError(message.value.decode())

    def __del__(self) -> None:
        if self._handle:
            self._library.scpu_close(self._handle)

    def run(self, images: Array, classes: int) -> Array:
        """Logits [N, classes] of contiguous images [N, C, H, W]; both shapes must match the program.

        Raises:
            InputError: The activations do not fit in memory.
        """
        logits = np.empty((len(images), classes), np.float32)
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        failed = self._library.scpu_run(
            self._handle, images.ctypes.data, len(images), logits.ctypes.data, message, _MESSAGE_BYTES
        )
        if failed:
            raise InputError(message.value.decode())
        return logits

    def describe(self, images: int) -> dict[str, Any]:
        """How `images` images are computed at once: layouts, tiles, and the time that each step has taken so far."""
        needed = self._library.scpu_describe(self._handle, images, None, 0)
        if not needed:
            msg = f"cannot plan for {images} images at once; use a power of two up to the vector width"
            raise InputError(msg)
        # The times may have grown by a few digits by the time the text is written.
        text = ctypes.create_string_buffer(needed + 4096)
        self._library.scpu_describe(self._handle, images, text, len(text))
        return json.loads(text.value)


@cache
def _library() -> ctypes.CDLL:
    path = Path(__file__).with_name("_core.so")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        reason = "was not built" if not path.exists() else f"does not load ({error})"
        msg = f"the core of the engine sparse-cpu {reason}; {_INSTALL}"
        raise UnavailableError(msg) from error
    if library.scpu_version() != _VERSION:
        msg = f"the core of the engine sparse-cpu does not match the version of this package; {_INSTALL}"
        raise UnavailableError(msg)
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    library.scpu_instructions.argtypes, library.scpu_instructions.restype = [text], text
    library.scpu_spin.argtypes, library.scpu_spin.restype = [text, ctypes.c_int64], ctypes.c_int64
    library.scpu_open.argtypes = [text, size, text, ctypes.c_int, text, size]
    library.scpu_open.restype = pointer
    library.scpu_run.argtypes = [pointer, pointer, ctypes.c_int64, pointer, text, size]
    library.scpu_describe.argtypes, library.scpu_describe.restype = [pointer, ctypes.c_int, text, size], size
    library.scpu_close.argtypes, library.scpu_close.restype = [pointer], None
    return library
