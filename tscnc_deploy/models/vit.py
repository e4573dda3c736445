"""Vision Transformer (Dosovitskiy et al., arXiv 2010.11929) in the size that DeiT calls tiny (arXiv 2012.12877).

Query, key, value and output are linear layers of their own: torch's and torchvision's attention keep the first three in
a bare parameter, which masks, constraints and counts of weights would not see.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.models.stem import channels

_DIM, _HEADS, _DEPTH, _MLP_RATIO = 192, 3, 12, 4
# Patches of so many pixels a side for images whose shorter side has at least so many.
_PATCHES = ((96, 16), (48, 8), (16, 4), (1, 2))
# Attention takes memory with the square of it, and the size of images may come from anybody's file.
_MAX_TOKENS = 1024


class Vit(nn.Module):
    """Patches as tokens, twelve blocks of attention and MLP with the norm first, mean over the tokens, a linear layer.

    A patch has 16x16 pixels in images with a shorter side from 96, 8x8 from 48, 4x4 from 16, 2x2 below; where patches
    do not divide the image, it gets a margin of the mean colour. There is no class token and no dropout, which would
    draw from the global random state. The width scales tokens and number of heads; heads have 48 to 96 channels, and
    fewer below a quarter of the width.

    Tokens pass through the blocks as rows [N * tokens, dim].

    Raises:
        InputError: The image has more than 1,024 patches.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        heads = max(1, round(_HEADS * config.width))
        dim = heads * channels(_DIM, config.width / heads)
        side = _patch_side(config)
        tokens = _tokens(config, side)
        # At most half a patch on both sides; the stride drops the pixel that is too many.
        margins = [(-size % side + 1) // 2 for size in config.input_shape[1:]]
        self.patches = nn.Conv2d(config.input_shape[0], dim, side, stride=side, padding=(margins[0], margins[1]))
        self.positions = Positions(tokens, dim)
        self.blocks = nn.Sequential(*(Block(dim, heads, tokens) for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.positions(self.patches(x).flatten(2).transpose(1, 2))
        shape = x.shape
        # An exporter keeps a linear layer's weight as it is only where inputs have two axes.
        x = self.norm(self.blocks(x.flatten(0, 1)))
        return self.head(x.reshape(shape).mean(1))


class Positions(nn.Module):
    """Adds what is learned of each place to the token there."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(tokens, dim))

    def initialize(self, generator: torch.Generator) -> None:
        """Fresh values, as in both papers."""
        nn.init.normal_(self.table, std=0.02, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class Block(nn.Module):
    """Attention, then an MLP on each token; each sees the norm of its input, and adds to that input."""

    def __init__(self, dim: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, tokens)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, _MLP_RATIO * dim), nn.GELU(), nn.Linear(_MLP_RATIO * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Multi-head attention (arXiv 1706.03762) of an image's tokens on each other.

    Attributes:
        heads: Number of them.
        multiply_adds: Of its two products for one image, which have no weights.
    """

    def __init__(self, dim: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads = heads
        self.multiply_adds = 2 * dim * tokens**2
        self._by_head = (-1, tokens, heads, dim // heads)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        rows = (self.query(x), self.key(x), self.value(x))
        query, key, value = (part.reshape(self._by_head).transpose(1, 2) for part in rows)
        # Written out: the fused operator leaves shapes to be computed in ONNX files, and tokens are few.
        scores = (query * self._by_head[-1] ** -0.5) @ key.transpose(-2, -1)
        mixed = scores.softmax(-1) @ value
        return self.output(mixed.transpose(1, 2).reshape(x.shape))


def _patch_side(config: ModelConfig) -> int:
    """Pixels of a patch in each direction."""
    shorter = min(config.input_shape[1:])
    return next(side for least, side in _PATCHES if shorter >= least)


def _tokens(config: ModelConfig, side: int) -> int:
    height, width = config.input_shape[1:]
    tokens = -(-height // side) * -(-width // side)
    if tokens > _MAX_TOKENS:
        msg = (
            f"images of {height}x{width} pixels have {tokens} patches of {side}x{side}, and model.arch = 'vit-tiny' "
            f"takes at most {_MAX_TOKENS}; make them smaller, for example with data.image_size = 224"
        )
        raise InputError(msg)
    return tokens
