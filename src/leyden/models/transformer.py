"""The transformer block, with causal attention for `gpt.py` and without for `attention.py`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Cache = dict[nn.Module, tuple[Tensor, Tensor]]  # keys and values of the earlier positions, by attention layer


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which each position attends to itself and the ones before it (Vaswani et al., 2017).

    In each head, softmax(q k^T / sqrt(E/heads)) v, where the scores of later positions are minus infinity.

    Args:
        embed_dim: Width E of input and output.
        num_heads: Number of heads; each has E / heads of the width.
        dropout: Probability of dropping an attention weight.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)  # queries, keys and values of all heads by one product
        self.out = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map (B, T, E) to (B, T, E); with a cache T is 1, the position after those in the cache."""
        heads = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (B, T, 3, heads, E/heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (B, heads, T, E/heads)
        if cache is not None:
            if self in cache:
                k, v = (torch.cat(pair, dim=2) for pair in zip(cache[self], (k, v), strict=True))
            cache[self] = k, v
        dropout = self.dropout if self.training else 0.0
        # no mask with a cache: the one new position attends to all positions
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=cache is None)
        return self.out(x.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # (B, T, E)


class TransformerBlock(nn.Module):
    """Attention, then a perceptron on each token; each is applied to a normalised copy and added to its input.

    This order, pre-norm, gives gradients of one size in all layers from the first step (Xiong et al., 2020); Vaswani et
    al. (2017) normalise after the addition. The perceptron's activation is the exact GELU(z) = z Phi(z), where Phi is
    the normal distribution function. The code of GPT-2 approximates it by 0.5 z (1 + tanh(sqrt(2/pi) (z + 0.044715
    z^3))), which differs by at most 5e-4: use `F.gelu(z, approximate="tanh")` with its published weights.

    Args:
        embed_dim: Width E of input and output.
        num_heads: Number of heads of the attention.
        dropout: Probability of dropping a value before each addition and, if causal, an attention weight.
        mlp_ratio: Hidden size of the perceptron in units of E.
        causal: Whether a position attends only to itself and the ones before it.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float, mlp_ratio: float = 4.0, *, causal: bool) -> None:
        super().__init__()
        hidden_size = int(mlp_ratio * embed_dim)
        self.causal = causal
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attention = (
            CausalSelfAttention(embed_dim, num_heads, dropout)  # nn.MultiheadAttention cannot cache keys and values
            if causal
            else nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        )
        self.norm2 = nn.LayerNorm(embed_dim)
        self.hidden = nn.Linear(embed_dim, hidden_size)
        self.out = nn.Linear(hidden_size, embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map (B, T, E) to (B, T, E).

        Args:
            x: The tokens.
            cache: Keys and values of earlier positions, of a causal block; see `GPT.forward`.
        """
        y = self.norm1(x)
        # without weights to return, torch uses a fused kernel that never stores all of them, (B, heads, T, T)
        y = self.attention(y, cache) if self.causal else self.attention(y, y, y, need_weights=False)[0]
        x = x + self.dropout(y)
        return x + self.dropout(self.out(F.gelu(self.hidden(self.norm2(x)))))  # type: ignore[no-any-return]
