"""Random streams that depend on their purpose, not on what ran before.

Every epoch draws from generators seeded by (recipe seed, stage, epoch), so a training that resumes between two epochs
sees the same numbers as one that was never interrupted. A checkpoint within an epoch contains the states of that
epoch's generators, see `training.state`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tscnc_deploy.digests import digest_of_bytes


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for a named purpose."""
    text = "/".join(str(part) for part in (seed, *names))
    return int(digest_of_bytes(text.encode())[:16], 16) >> 1


@contextmanager
def layers_draw_from(seed: int, device: torch.device) -> Iterator[None]:
    """Context in which layers that draw from the global random state, such as dropout, draw from a seed.

    The global state is the same afterwards as before.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def derive_generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for a named purpose."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *names))
