"""The decoder of GPT-2: its size, its causality and its cache."""

import torch
from torch import Tensor, nn

from leyden.models.gpt import GPT
from leyden.models.image_gpt import ImageGPT

from .test_image_gpt import SMALL, small


def some_tokens(model: ImageGPT, count: int = 3) -> Tensor:
    inputs, _ = model.inputs_and_targets(torch.rand(count, 1, 8, 8), torch.arange(count))
    return inputs


def test_a_later_token_changes_no_earlier_logit_and_all_from_its_own_place_on() -> None:
    model = small()
    tokens = some_tokens(model)
    other = tokens.clone()
    other[:, 20] = (other[:, 20] + 1) % 17
    before, after = model(tokens), model(other)
    assert torch.equal(before[:, :20], after[:, :20])
    assert (before[:, 20:] != after[:, 20:]).any(dim=2).all()


def test_parameter_counts_are_those_counted_by_hand() -> None:
    # per layer of width 16: attention 4 (16 x 16 + 16), norms 2 x 32, hidden 16 x 64 + 64, out 64 x 16 + 16
    # then 27 tokens and 64 positions of 16, and the last norm of 32
    tied, untied = (ImageGPT(input_shape=(1, 8, 8), num_classes=10, tie_weights=tie, **SMALL) for tie in (True, False))
    assert sum(p.numel() for p in tied.parameters()) == 2 * 3280 + 27 * 16 + 64 * 16 + 32 == 8048
    assert sum(p.numel() for p in untied.parameters()) == 8048 + 27 * 16


def test_gpt2s_own_sizes_give_gpt2s_own_parameter_count() -> None:
    with torch.device("meta"):
        network = GPT(50_257, 1024, embed_dim=768, num_layers=12, num_heads=12, dropout=0.1, tie_weights=True)
    assert sum(p.numel() for p in network.parameters()) == 124_439_808  # that of the published weights


def test_cached_logits_are_those_of_the_whole_sequence() -> None:
    model = small()
    tokens = some_tokens(model)
    cache: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    one_by_one = torch.cat([model(tokens[:, :end], cache) for end in range(1, 65)], dim=1)
    torch.testing.assert_close(one_by_one, model(tokens))
