"""The decoder of an ImageGPT as an ONNX file: one step of the loop that draws images."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim

from leyden.deploy.export.onnx_file import strip
from leyden.deploy.export.program import quiet
from leyden.models.image_gpt import ImageGPT
from leyden.models.transformer import Cache, CausalSelfAttention

PAST = 3  # tokens in the example: torch takes 0 and 1 for constants


class DecoderStep(nn.Module):
    """Map the tokens so far to the logits of the next pixel, given the keys and values of the earlier ones.

    This is the step of `ImageGPT.sample`, with its cache as one array.

    Args:
        model: The model, in evaluation mode.
    """

    def __init__(self, model: ImageGPT) -> None:
        super().__init__()
        self.model = model
        self.attentions = [layer for layer in model.network.modules() if isinstance(layer, CausalSelfAttention)]

    def empty_cache(self, batch_size: int, length: int = 0) -> Tensor:
        """Return zeros for the keys and values of `length` tokens, (layers, 2, N, heads, length, E/heads)."""
        attention = self.attentions[0]
        width = attention.out.in_features // attention.num_heads
        return torch.zeros(len(self.attentions), 2, batch_size, attention.num_heads, length, width)

    def forward(self, tokens: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the next pixel (N, levels), and the cache with the last token's keys and values.

        Args:
            tokens: The class as `levels` + its index, then the pixels so far, (N, T).
            cache: Keys and values of the first T - 1 tokens, (layers, 2, N, heads, T - 1, E/heads).
        """
        pairs: Cache = {layer: (past[0], past[1]) for layer, past in zip(self.attentions, cache, strict=True)}
        logits = self.model(tokens, pairs)[:, -1]
        return logits, torch.stack([torch.stack(pairs[layer]) for layer in self.attentions])


def write_decoder(model: ImageGPT, metadata: Mapping[str, str], path: Path) -> None:
    """Write the decoder step as one ONNX file: inputs `tokens` and `cache`, outputs `logits` and `new_cache`.

    Args:
        model: The model, on the CPU; it is left in evaluation mode.
        metadata: What the file says about itself; `decoder_metadata` is added.
        path: The file.
    """
    step = DecoderStep(model.eval())
    example = (torch.zeros(2, PAST + 1, dtype=torch.int64), step.empty_cache(2, PAST))
    batch, past = Dim("N", min=1), Dim("P", min=0, max=max(PAST, model.output_shape[0] - 1))
    with quiet(), torch.no_grad():
        program = torch.export.export(step, example, dynamic_shapes=({0: batch, 1: past + 1}, {2: batch, 4: past}))
        inputs, outputs = ("tokens", "cache"), ("logits", "new_cache")
        translated = torch.onnx.export(program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs)
    assert translated is not None
    proto = translated.model_proto
    strip(proto.graph)
    _name_dimensions(proto.graph)
    onnx.helper.set_model_props(proto, {**metadata, **decoder_metadata(model)})
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def _name_dimensions(graph: onnx.GraphProto) -> None:
    """Call the symbolic dimensions N and P; torch's names are like s34."""
    sizes = graph.input[1].type.tensor_type.shape.dim
    batch, past = sizes[2].dim_param, sizes[4].dim_param
    for value in (*graph.input, *graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = size.dim_param.replace(batch, "N").replace(past, "P")


def decoder_metadata(model: ImageGPT) -> dict[str, str]:
    """Return what a sampling loop must know: `input`, and `sampling` with the model's defaults, both in JSON."""
    sampling = {
        "levels": model.levels,
        "image_shape": [*model.image_shape],
        "num_samples": model.hparams["num_samples"],
        "temperature": model.hparams["temperature"],
        "top_k": model.hparams["top_k"] or model.levels,
        "seed": model.hparams["sample_seed"],
    }
    return {"input": json.dumps({"shape": ["N", "T"], "dtype": "int64"}), "sampling": json.dumps(sampling)}


@torch.no_grad()
def largest_difference(path: Path, model: ImageGPT) -> float:
    """Return the largest difference of a logit between a file and the model, over the steps of an image of each class.

    Args:
        path: The file.
        model: The model, on the CPU and in evaluation mode.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tokens = model.levels + torch.arange(model.num_classes)[:, None]  # (N, 1)
    cache: Cache = {}
    new_cache = DecoderStep(model).empty_cache(model.num_classes).numpy()
    largest = 0.0
    for _ in range(math.prod(model.image_shape)):
        expected = model(tokens, cache)[:, -1]
        logits, new_cache = session.run(None, {"tokens": tokens.numpy(), "cache": new_cache})
        largest = max(largest, float(np.abs(expected.numpy() - logits).max()))
        tokens = torch.cat([tokens, expected.argmax(dim=1, keepdim=True)], dim=1)
    return largest
