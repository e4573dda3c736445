"""Random numbers per image that do not depend on its batch, the device or the order.

A stateful generator cannot do this: an image's numbers would depend on the other images. Instead, every number is a
hash of (seed, stream, index of the image, counter, position), computed for all images at once.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The int64 with the same 64 bits as the value modulo 2**64."""
    value %= 1 << 64
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shift(bits: Tensor, places: int) -> Tensor:
    # Torch shifts signed integers arithmetically; the mask removes the copies of the sign bit.
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """The output function of SplitMix64 on int64 tensors, which wrap around."""
    bits = (bits ^ _shift(bits, 30)) * _FIRST
    bits = (bits ^ _shift(bits, 27)) * _SECOND
    return bits ^ _shift(bits, 31)


class Noise:
    """Randomness for a batch of images, one independent sequence per (seed, stream, image, counter).

    Args:
        seed: Any integer.
        indices: int64 [N], index in the evaluated set of each image in the batch.
        stream: Makes the numbers of different users (such as two attacks) independent of each other.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (SplitMix64).
    """

    def __init__(self, seed: int, indices: Tensor, stream: str) -> None:
        self.seed = seed
        self.indices = indices
        self.stream = stream
        digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
        self._keys = _mix(_signed(int.from_bytes(digest, "little")) + indices * _signed(_GOLDEN))

    def select(self, rows: Tensor) -> Noise:
        """The same randomness for some rows of the batch, given an int64 or bool index."""
        return Noise(self.seed, self.indices[rows], self.stream)

    def uniform(self, counter: int, shape: tuple[int, ...]) -> Tensor:
        """float32 [N, *shape], uniform in [0, 1), multiples of 2**-24.

        Args:
            counter: Selects the sequence; the same counter gives the same numbers again.
            shape: Shape of the numbers for one image.
        """
        bits = self._bits(counter, math.prod(shape))
        return (_shift(bits, 40).float() * 2.0**-24).reshape(-1, *shape)

    def integers(self, counter: int, sizes: Tensor) -> Tensor:
        """int64 [N, M], column m uniform in {0, ..., sizes[m] - 1}.

        Args:
            counter: As in `uniform`, which draws from the same sequences.
            sizes: int64 [M], each from 1 to 2**31.
        """
        return _shift(_shift(self._bits(counter, len(sizes)), 33) * sizes, 31)

    def _bits(self, counter: int, count: int) -> Tensor:
        # Two rounds of hashing separate the sequences; along a sequence this is SplitMix64 itself.
        start = _mix(self._keys + _signed((counter + 1) * _GOLDEN))
        steps = torch.arange(1, count + 1, device=start.device) * _signed(_GOLDEN)
        return _mix(start[:, None] + steps)


def gaussian(noise: Noise, counter: int, shape: tuple[int, ...]) -> Tensor:
    """float32 [N, *shape], standard normal, by the Box-Muller transform; at most 5.77 in absolute value.

    Args:
        noise: Randomness for N images.
        counter: As in `Noise.uniform`, which draws from the same sequences.
        shape: Shape of the numbers for one image.

    Source: Box and Muller, "A note on the generation of random normal deviates", Ann. Math. Stat. 29:610-611, 1958.
    """
    count = math.prod(shape)
    uniform = noise.uniform(counter, (2, (count + 1) // 2))
    # The uniform numbers may be 0 but never 1, so the logarithm is finite.
    radius = torch.sqrt(-2 * torch.log1p(-uniform[:, 0]))
    angle = 2 * math.pi * uniform[:, 1]
    pairs = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)
    return pairs[:, :count].reshape(-1, *shape)
