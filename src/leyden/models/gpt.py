"""The decoder of GPT-2, over tokens of any kind; `image_gpt.py` trains it on pixels."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Cache = dict[nn.Module, tuple[Tensor, Tensor]]  # keys and values of the earlier positions, by attention layer


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a position sees itself and those before it (Vaswani et al., 2017).

    In each head, softmax(q k^T / sqrt(E/heads)) v, where a later position's score is minus infinity.

    Args:
        embed_dim: Width E of input and output.
        num_heads: Heads; each has E / heads of the width.
        dropout: Probability of dropping an attention weight.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)  # all heads' queries, keys and values by one product
        self.out = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map (B, T, E) to (B, T, E); with a cache T is 1, the position after those in it."""
        heads = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (B, T, 3, heads, E/heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (B, heads, T, E/heads)
        if cache is not None:
            if self in cache:
                k, v = (torch.cat(pair, dim=2) for pair in zip(cache[self], (k, v), strict=True))
            cache[self] = k, v
        # the one new position of a cached step may see all that are there, so it needs no mask
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=cache is None)
        return self.out(x.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # (B, T, E)


class DecoderLayer(nn.Module):
    """Attention, then two linear layers, each normalised before and added to what comes in (pre-norm).

    Between the linear layers is the exact GELU(z) = z Phi(z), where Phi is the normal distribution function. GPT-2's
    own code has an approximation, 0.5 z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))), at most 5e-4 away: use
    `F.gelu(z, approximate="tanh")` with its published weights.

    Args:
        embed_dim: Width E of input and output; the hidden layer has 4 E.
        num_heads: Heads of the attention.
        dropout: Probability of dropping an attention weight, and a value before each addition.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attention = CausalSelfAttention(embed_dim, num_heads, dropout)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.hidden = nn.Linear(embed_dim, 4 * embed_dim)
        self.out = nn.Linear(4 * embed_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map (B, T, E) to (B, T, E)."""
        x = x + self.dropout(self.attention(self.norm1(x), cache))
        return x + self.dropout(self.out(F.gelu(self.hidden(self.norm2(x)))))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """The decoder of GPT-2 (Radford et al., 2019): logits of the next token at every position.

    Args:
        vocabulary: Number of different tokens V.
        length: The most positions T that a sequence has.
        embed_dim: Width E.
        num_layers: Decoder layers.
        num_heads: Heads of each attention; E is a multiple of it.
        dropout: Probability of dropping a value of the embeddings, and in every layer.
        tie_weights: Whether the head's weights are the token embedding's.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        tie_weights: bool,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, embed_dim)
        self.positions = nn.Embedding(length, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(DecoderLayer(embed_dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, vocabulary, bias=False)
        if tie_weights:
            self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():  # GPT-2's, where each layer adds less the more there are
            if parameter.ndim == 2:
                nn.init.normal_(
                    parameter, std=0.02 / math.sqrt(2 * num_layers) if name.endswith("out.weight") else 0.02
                )
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Map tokens (B, T) to the logits of the next ones (B, T, V).

        Args:
            tokens: The sequence, or its beginning.
            cache: A dict, empty for a new sequence, that then holds all positions but the last. Only this one is
                computed, and its logits returned, (B, 1, V).
        """
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]  # (B, T, E)
        if cache is not None:
            x = x[:, -1:]  # (B, 1, E)
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, cache)
        return self.head(self.norm(x))  # type: ignore[no-any-return]
