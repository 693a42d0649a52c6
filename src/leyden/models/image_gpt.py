"""Images as sequences of tokens, one per pixel, each predicted from the ones before it."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics import MeanMetric, Metric

from leyden.errors import UserError
from leyden.models.gpt import GPT
from leyden.models.task import Task
from leyden.models.transformer import Cache


class BitsPerDimension(MeanMetric):
    """Mean cross-entropy of all tokens in bits: the mean code length of a pixel under an ideal code."""

    def update(self, output: Tensor, y: Tensor) -> None:  # type: ignore[override]
        """Add logits (B, T, levels) and tokens (B, T)."""
        super().update(F.cross_entropy(output.transpose(1, 2), y, reduction="none") / math.log(2))


class ImageGPT(Task):
    """GPT-2's decoder over pixels (Chen et al., 2020), which draws images of a chosen class.

    An image is averaged over squares of pixels, quantised and read row by row, one channel after the other. The first
    token is the class: from (class, pixel 1, ..., pixel T - 1) the network predicts (pixel 1, ..., pixel T). Pixels
    must be in [0, 1]: set `mean: 0.0` and `std: 1.0` in the data. `fit` and `predict` end with `samples.png`, a row
    of new images for each class; after `fit` they are drawn with the weights of best.ckpt.

    Args:
        num_classes: Number of classes; from the data.
        levels: Number of grey levels to which pixels are rounded; digits have 17.
        pool: Side of the squares that are averaged to one pixel; 1 for none.
        embed_dim: Width of the network.
        num_layers: Number of blocks.
        num_heads: Number of heads of each attention; `embed_dim` is a multiple of it.
        dropout: Probability of dropping an attention weight, or a value of an embedding or of a block's output.
        tie_weights: Whether the head and the token embedding share their weights.
        num_samples: Number of images to draw of each class.
        temperature: Divides the logits before drawing; below 1, likely levels become more likely.
        top_k: Draw from this many most likely levels only; null for all.
        sample_seed: Seed of the drawn images.
        kwargs: `input_shape`, `optimizer`, `lr_scheduler`, `lr_interval` and `init_from`, as for every task.
    """

    def __init__(
        self,
        num_classes: int,
        levels: int = 17,
        pool: int = 1,
        embed_dim: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
        tie_weights: bool = True,
        num_samples: int = 10,
        temperature: float = 1.0,
        top_k: int | None = None,
        sample_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        shape = self.hparams["input_shape"]
        if num_classes is None or len(shape) != 3:
            raise UserError("ImageGPT needs images (C, H, W) with class labels, and its data have none")
        if embed_dim % num_heads:
            raise UserError(f"embed_dim {embed_dim} must be a multiple of num_heads {num_heads}")
        if shape[1] % pool or shape[2] % pool or levels < 2:
            raise UserError(f"pool {pool} must divide {shape[1]} and {shape[2]}, and levels {levels} be 2 or more")
        if temperature <= 0 or (top_k is not None and not 0 < top_k <= levels):
            raise UserError(f"temperature must be above 0 and top_k 1 to {levels}, but they are {temperature}, {top_k}")
        self.num_classes = num_classes
        self.levels = levels
        self.pool = pool
        self.image_shape = (shape[0], shape[1] // pool, shape[2] // pool)
        max_length = math.prod(self.image_shape)
        # tokens 0 to levels - 1 are pixels, the next num_classes are classes
        self.network = GPT(levels + num_classes, max_length, embed_dim, num_layers, num_heads, dropout, tie_weights)
        self.example_input_array = torch.zeros(2, max_length, dtype=torch.int64)
        self.output_shape = (max_length, levels)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Map tokens (B, T) to logits of the next pixels (B, T, levels), or (B, 1, levels) of the last with a cache."""
        logits: Tensor = self.network(tokens, cache)
        return logits[..., : self.levels]  # the next token is never a class

    def quantize(self, x: Tensor) -> Tensor:
        """Map images (B, *input_shape) in [0, 1] to pixel tokens (B, T).

        Raises:
            UserError: A pixel is outside of [0, 1].
        """
        if x.min() < 0 or x.max() > 1:
            raise UserError(
                f"ImageGPT takes pixels in [0, 1], but these reach from {x.min():.2f} to {x.max():.2f}: "
                "set --data.mean 0.0 --data.std 1.0"
            )
        return (F.avg_pool2d(x, self.pool) * (self.levels - 1)).round().long().flatten(1)

    def dequantize(self, tokens: Tensor) -> Tensor:
        """Map pixel tokens (B, T) to images (B, *image_shape) in [0, 1]."""
        return tokens.reshape(-1, *self.image_shape) / (self.levels - 1)

    def inputs_and_targets(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Turn images (B, *input_shape) and labels (B,) into tokens and the tokens that follow them, both (B, T)."""
        pixels = self.quantize(x)
        return torch.cat([self.levels + y[:, None], pixels[:, :-1]], dim=1), pixels

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits (B, T, levels) and tokens (B, T), in nats."""
        return F.cross_entropy(output.transpose(1, 2), y)

    def configure_metrics(self) -> dict[str, Metric]:
        """Return the bits per dimension, where a dimension is a token."""
        return {"bpd": BitsPerDimension(nan_strategy="disable")}

    @torch.no_grad()
    def sample(self, y: Tensor, cached: bool = True) -> Tensor:
        """Draw an image of each class in `y` (B,), pixel by pixel; return images (B, *image_shape) in [0, 1].

        Args:
            y: The classes.
            cached: Whether to keep the keys and values of earlier pixels instead of computing them for each pixel.
        """
        generator = torch.Generator(self.device).manual_seed(self.hparams["sample_seed"])
        tokens = self.levels + y[:, None].to(self.device)  # (B, 1)
        cache: Cache | None = {} if cached else None
        training = self.training
        self.eval()
        for _ in range(math.prod(self.image_shape)):
            logits = self(tokens, cache)[:, -1].float() / self.hparams["temperature"]  # (B, levels)
            top_logits, level = logits.topk(self.hparams["top_k"] or self.levels)  # (B, k), the most likely first
            drawn = torch.multinomial(top_logits.softmax(dim=1), 1, generator=generator)
            tokens = torch.cat([tokens, level.gather(1, drawn)], dim=1)
        self.train(training)
        return self.dequantize(tokens[:, 1:])

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return no table: `leyden.callbacks.sample_grid.SampleWriter` draws new images instead."""
        return {}
