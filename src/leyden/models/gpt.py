"""The decoder of GPT-2, over tokens of any kind; `image_gpt.py` trains it on pixels."""

import math

from torch import Tensor, nn

from leyden.models.transformer import Cache, TransformerBlock


class GPT(nn.Module):
    """The decoder of GPT-2 (Radford et al., 2019): logits of the next token at every position.

    Args:
        vocab_size: Number of different tokens V.
        max_length: Largest number of positions T in a sequence.
        embed_dim: Width E.
        num_layers: Number of blocks.
        num_heads: Number of heads of each attention; E is a multiple of it.
        dropout: Probability of dropping a value of the embeddings, and in every block.
        tie_weights: Whether the head and the token embedding share their weights.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        tie_weights: bool,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, embed_dim)
        self.positions = nn.Embedding(max_length, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerBlock(embed_dim, num_heads, dropout, causal=True) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, vocab_size, bias=False)
        if tie_weights:
            self.head.weight = self.tokens.weight
        # GPT-2's initial weights: each block adds less, the more blocks there are
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.02 / math.sqrt(2 * num_layers) if name.endswith("out.weight") else 0.02
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Map tokens (B, T) to the logits of the next tokens (B, T, V).

        Args:
            tokens: The sequence, or its beginning.
            cache: A dict, empty before the first token, to which each call adds the keys and values of the last token.
                With it, only the logits of the last position are computed, (B, 1, V).
        """
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]  # (B, T, E)
        if cache is not None:
            x = x[:, -1:]  # (B, 1, E)
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, cache)
        return self.head(self.norm(x))  # type: ignore[no-any-return]
