"""Random streams that depend on their purpose, not on what ran before.

Every epoch draws from generators seeded by (recipe seed, stage, epoch), so a training that resumes between two epochs
sees the same numbers as one that was never interrupted. A checkpoint within an epoch contains the states of that
epoch's generators, see `training.state`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from tscnc_deploy.digests import digest_of_bytes


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for a named purpose."""
    text = "/".join(str(part) for part in (seed, *names))
    return int(digest_of_bytes(text.encode())[:16], 16) >> 1


@contextmanager
def layers_draw_from(seed: int, device: torch.device) -> Iterator[None]:
    """Context in which code that draws from global random states, such as dropout, draws from a seed.

    Those of PyTorch, NumPy and Python; they are the same afterwards as before.
    """
    devices = [device] if device.type == "cuda" else []
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def derive_generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for a named purpose."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *names))
