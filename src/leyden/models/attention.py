"""A transformer encoder, in which every patch of an image attends to every other."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from leyden.errors import UserError
from leyden.models.tasks import Classifier
from leyden.models.transformer import TransformerBlock


class PatchEmbedding(nn.Module):
    """Cut images into patches, map each linearly to a token, and add a learned vector for its position.

    Args:
        input_shape: Shape of an image, (C, H, W).
        patch_size: Height P and width Q of a patch; they divide H and W.
        embed_dim: Numbers E in a token.
    """

    def __init__(self, input_shape: tuple[int, ...], patch_size: tuple[int, int], embed_dim: int) -> None:
        super().__init__()
        (channels, height, width), (p, q) = input_shape, patch_size
        num_tokens = (height // p) * (width // q)
        self.unfold = nn.Unfold(patch_size, stride=patch_size)
        self.linear = nn.Linear(channels * p * q, embed_dim)
        self.position = nn.Parameter(0.02 * torch.randn(num_tokens, embed_dim))  # starts small

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to tokens (B, T, E): patches left to right, then top to bottom."""
        patches = self.unfold(x).transpose(1, 2)  # (B, C*P*Q, T) -> (B, T, C*P*Q)
        tokens: Tensor = self.linear(patches) + self.position
        return tokens


class MeanToken(nn.Module):
    """Mean of the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, T, E) to (B, E)."""
        return x.mean(dim=1)


class AttentionClassifier(Classifier):
    """A transformer encoder over the patches of an image (Dosovitskiy et al., 2021), with a linear head on their mean.

    Args:
        patch_size: Side of a square patch, or height and width: `[1, 28]` makes each row of 28 pixels a token.
        embed_dim: Numbers in a token.
        num_heads: Number of heads of the attention; `embed_dim` is a multiple of it.
        num_layers: Number of blocks.
        mlp_ratio: Hidden size of the perceptron in a block, in units of `embed_dim`.
        dropout: Probability of dropping a value before it is added to a token.
        kwargs: The arguments of `Classifier`.

    Raises:
        UserError: The patches do not divide the image, or the heads `embed_dim`.
    """

    def __init__(
        self,
        patch_size: int | tuple[int, int] = 4,
        embed_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 4,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        shape = self.hparams["input_shape"]
        p, q = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
        if len(shape) != 3 or shape[1] % p or shape[2] % q:
            raise UserError(f"patches of {p}x{q} do not divide a sample of {tuple(shape)}: choose another patch_size")
        if embed_dim % num_heads:
            raise UserError(f"embed_dim {embed_dim} must be a multiple of num_heads {num_heads}")
        layers = {
            f"layer{i}": TransformerBlock(embed_dim, num_heads, dropout, mlp_ratio, causal=False)
            for i in range(1, num_layers + 1)
        }
        self.network = nn.Sequential(
            OrderedDict(
                embedding=PatchEmbedding(shape, (p, q), embed_dim),  # (B, C, H, W) -> (B, T, E)
                **layers,
                norm=nn.LayerNorm(embed_dim),
                mean=MeanToken(),  # (B, E)
                head=nn.Linear(embed_dim, self.num_classes),  # logits (B, num_classes)
            )
        )
