"""Vision Transformer (Dosovitskiy et al., arXiv 2010.11929) in DeiT's size "tiny" (arXiv 2012.12877).

Query, key, value and output are separate linear layers: torch's and torchvision's attention keep the first three in a
bare parameter, which masks, constraints and weight counts would miss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.models.builtin.stem import channels
from tscnc_deploy.models.config import ModelConfig

_DIM, _HEADS, _DEPTH, _MLP_RATIO = 192, 3, 12, 4
# Patch size for images whose shorter side has at least that many pixels.
_PATCHES = ((96, 16), (48, 8), (16, 4), (1, 2))
# Attention's memory grows with its square, and the image size may come from an untrusted file.
_MAX_TOKENS = 1024


class Vit(nn.Module):
    """Patches as tokens, twelve pre-norm blocks of attention and MLP, the mean over the tokens, and a linear layer.

    A patch has 16x16 pixels in images with a shorter side from 96, 8x8 from 48, 4x4 from 16, 2x2 below; images that
    patches do not divide are padded with the mean colour. There is no class token, and no dropout because it would
    draw from the global random state. The width scales the token dimension and the number of heads; heads have 48 to 96
    channels, and fewer for a width below a quarter.

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
        # At most half a patch on both sides; the stride drops an excess pixel.
        margins = [(-size % side + 1) // 2 for size in config.input_shape[1:]]
        self.patches = nn.Conv2d(config.input_shape[0], dim, side, stride=side, padding=(margins[0], margins[1]))
        self.positions = Positions(tokens, dim)
        self.blocks = nn.Sequential(*(Block(dim, heads, tokens) for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.positions(self.patches(x).flatten(2).transpose(1, 2))
        shape = x.shape
        # The exporter keeps a linear layer's weight unchanged only if its input has two axes.
        x = self.norm(self.blocks(x.flatten(0, 1)))
        return self.head(x.reshape(shape).mean(1))


class Positions(nn.Module):
    """Adds the learned position embeddings to the tokens."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(tokens, dim))

    def initialize(self, generator: torch.Generator) -> None:
        """Initialises the embeddings, as in both papers."""
        nn.init.normal_(self.table, std=0.02, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class Block(nn.Module):
    """Attention, then an MLP on each token; both are residual with a norm before them."""

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
    """Multi-head self-attention (arXiv 1706.03762) over an image's tokens.

    Attributes:
        heads: Number of heads.
        multiply_adds: MACs per image of its two matrix products, which have no weights.
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
        # Not fused: the fused operator leaves shape computations in ONNX files, and there are few tokens.
        scores = (query * self._by_head[-1] ** -0.5) @ key.transpose(-2, -1)
        mixed = scores.softmax(-1) @ value
        return self.output(mixed.transpose(1, 2).reshape(x.shape))


def _patch_side(config: ModelConfig) -> int:
    """Side of a patch in pixels."""
    shorter = min(config.input_shape[1:])
    return next(side for least, side in _PATCHES if shorter >= least)


def _tokens(config: ModelConfig, side: int) -> int:
    height, width = config.input_shape[1:]
    tokens = -(-height // side) * -(-width // side)
    if tokens > _MAX_TOKENS:
        msg = (
            f"images of {height}x{width} pixels have {tokens} patches of {side}x{side}, but model.arch = 'vit-tiny' "
            f"supports at most {_MAX_TOKENS}; resize them, for example with data.image_size = 224"
        )
        raise InputError(msg)
    return tokens
