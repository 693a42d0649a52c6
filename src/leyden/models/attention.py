"""A transformer encoder, in which every patch of an image looks at every other."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from leyden.errors import UserError
from leyden.models.tasks import Classifier


class PatchEmbedding(nn.Module):
    """Cuts an image into patches of PxQ, makes each a token by one linear map, and adds what tells its place."""

    def __init__(self, input_shape: tuple[int, ...], patch_size: tuple[int, int], embed_dim: int) -> None:
        super().__init__()
        (channels, height, width), (p, q) = input_shape, patch_size
        num_tokens = (height // p) * (width // q)
        self.cut = nn.Unfold(patch_size, stride=patch_size)
        self.linear = nn.Linear(channels * p * q, embed_dim)
        self.position = nn.Parameter(0.02 * torch.randn(num_tokens, embed_dim))  # learned, small at first

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to tokens (B, T, E): patches left to right, then top to bottom."""
        patches = self.cut(x).transpose(1, 2)  # (B, C*P*Q, T) -> (B, T, C*P*Q)
        tokens: Tensor = self.linear(patches) + self.position
        return tokens


class EncoderLayer(nn.Module):
    """Attention between tokens, softmax(Q K^T / sqrt(E/heads)) V in each head, then a perceptron on each token.

    Both add to what they were given (Vaswani et al., 2017). Each is normalised at its start, not at its end as
    there: gradients then have one size in all layers from the first step (Xiong et al., 2020). The perceptron's
    activation is the exact GELU(z) = z Phi(z), where Phi is the normal distribution function, not its form with tanh.
    """

    def __init__(self, embed_dim: int, num_heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden_size = int(mlp_ratio * embed_dim)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attention = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = nn.Sequential(nn.Linear(embed_dim, hidden_size), nn.GELU(), nn.Linear(hidden_size, embed_dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, T, E) to tokens (B, T, E)."""
        h = self.norm1(x)
        # asked for no weights, torch takes a fused kernel that never holds all of them, (B, heads, T, T)
        x = x + self.dropout(self.attention(h, h, h, need_weights=False)[0])
        tokens: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return tokens


class MeanToken(nn.Module):
    """The mean of the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, T, E) to (B, E)."""
        return x.mean(dim=1)


class AttentionClassifier(Classifier):
    """A transformer encoder over the patches of an image (Dosovitskiy et al., 2021), with a linear head on their mean.

    Args:
        patch_size: Side of a square patch, or height and width: `[1, 28]` makes each row of 28 pixels a token.
        embed_dim: Numbers in a token.
        num_heads: Heads of the attention; they share out the numbers of a token.
        num_layers: Encoder layers.
        mlp_ratio: Hidden size of the perceptron in a layer, in units of `embed_dim`.
        dropout: Probability of dropping a number of what is added to a token.
        kwargs: The arguments of `Classifier`.

    Raises:
        UserError: The patches do not divide the image, or the heads the token.
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
        layers = {f"layer{i}": EncoderLayer(embed_dim, num_heads, mlp_ratio, dropout) for i in range(1, num_layers + 1)}
        self.network = nn.Sequential(
            OrderedDict(
                embedding=PatchEmbedding(shape, (p, q), embed_dim),  # (B, C, H, W) -> (B, T, E)
                **layers,
                norm=nn.LayerNorm(embed_dim),
                mean=MeanToken(),  # (B, E)
                head=nn.Linear(embed_dim, self.num_classes),  # logits (B, num_classes)
            )
        )
