"""Random streams that depend on their purpose, not on what ran before.

Every epoch draws from generators seeded by (recipe seed, stage, epoch), so a training that resumes between two epochs
sees the same numbers as one that was never interrupted. A checkpoint within an epoch contains the states of that
epoch's generators, see `training.state`.
"""

from __future__ import annotations

import torch

from tscnc_deploy.digests import digest_of_bytes


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for a named purpose."""
    text = "/".join(str(part) for part in (seed, *names))
    return int(digest_of_bytes(text.encode())[:16], 16) >> 1


def derive_generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for a named purpose."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *names))
