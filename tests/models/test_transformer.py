"""The transformer block against its written equations and torch's layer."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leyden.models.transformer import TransformerBlock


def attention(w: dict[str, Tensor], x: Tensor, num_heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V head by head, their results side by side through the output's linear map."""
    q, k, v = (x @ w["attention.in_proj_weight"].T + w["attention.in_proj_bias"]).chunk(3, dim=2)
    d = x.shape[2] // num_heads
    heads = []
    for h in range(num_heads):
        part = slice(h * d, (h + 1) * d)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(d)  # (B, T, T)
        weights = scores.exp() / scores.exp().sum(dim=2, keepdim=True)
        heads.append(weights @ v[..., part])
    return torch.cat(heads, dim=2) @ w["attention.out_proj.weight"].T + w["attention.out_proj.bias"]


def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(dim=2, keepdim=True)
    return centred / (centred.pow(2).mean(dim=2, keepdim=True) + 1e-5).sqrt() * weight + bias


def encoder_layer(w: dict[str, Tensor], x: Tensor, num_heads: int) -> Tensor:
    """A pre-norm layer: x + attention(norm(x)), then x + mlp(norm(x)) with GELU(z) = z Phi(z)."""
    x = x + attention(w, norm(x, w["norm1.weight"], w["norm1.bias"]), num_heads)
    z = norm(x, w["norm2.weight"], w["norm2.bias"]) @ w["hidden.weight"].T + w["hidden.bias"]
    return x + (z * (1 + torch.erf(z / math.sqrt(2))) / 2) @ w["out.weight"].T + w["out.bias"]


def stirred(module: nn.Module) -> dict[str, Tensor]:
    """All parameters, off the zeros and ones at which many start."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return dict(module.named_parameters())


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_attention_is_its_written_equation(num_heads: int) -> None:
    layer = TransformerBlock(embed_dim=8, num_heads=num_heads, dropout=0, mlp_ratio=2, causal=False)
    w, x = stirred(layer), torch.randn(3, 5, 8)
    torch.testing.assert_close(layer.attention(x, x, x, need_weights=False)[0], attention(w, x, num_heads))


@pytest.mark.parametrize("training", [True, False], ids=["training", "fast-inference"])
def test_an_encoder_layer_is_its_written_equations(training: bool) -> None:
    layer = TransformerBlock(embed_dim=8, num_heads=2, dropout=0, mlp_ratio=1.5, causal=False).train(training)
    w, x = stirred(layer), torch.randn(3, 5, 8)
    with torch.set_grad_enabled(training):  # without gradients torch has another kernel
        torch.testing.assert_close(layer(x), encoder_layer(w, x, num_heads=2))


def test_an_encoder_layer_is_that_of_torch() -> None:
    layer = TransformerBlock(embed_dim=8, num_heads=4, dropout=0, mlp_ratio=3, causal=False)
    theirs = nn.TransformerEncoderLayer(8, 4, 24, dropout=0, activation=F.gelu, batch_first=True, norm_first=True)
    names = {"self_attn": "attention", "linear1": "hidden", "linear2": "out"}
    w = stirred(layer)
    theirs.load_state_dict(
        {name: w[name.replace(part := name.split(".")[0], names.get(part, part))] for name in theirs.state_dict()}
    )
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(layer(x), theirs(x))


def test_dropout_drops_from_what_is_added_and_never_from_the_token_itself() -> None:
    layer = TransformerBlock(embed_dim=8, num_heads=2, dropout=1.0, mlp_ratio=2, causal=False)
    x = torch.randn(2, 5, 8)
    assert torch.equal(layer.train()(x), x)
    assert not torch.allclose(layer.eval()(x), x)


def test_a_layer_is_torchs_pre_norm_encoder_layer_under_a_causal_mask() -> None:
    layer = TransformerBlock(embed_dim=12, num_heads=3, dropout=0.0, causal=True)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    reference = nn.TransformerEncoderLayer(
        12, nhead=3, dim_feedforward=48, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    names = {
        "attention.qkv.": "self_attn.in_proj_",
        "attention.out.": "self_attn.out_proj.",
        "hidden.": "linear1.",
        "out.": "linear2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    weights = {}
    for name, weight in layer.state_dict().items():
        prefix = next(prefix for prefix in names if name.startswith(prefix))
        weights[name.replace(prefix, names[prefix])] = weight
    reference.load_state_dict(weights)
    x = torch.randn(2, 7, 12)
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    torch.testing.assert_close(layer(x), reference(x, src_mask=mask, is_causal=True))


def test_a_layers_gelu_is_the_exact_one_and_gpt2s_form_is_near_it() -> None:
    layer = TransformerBlock(embed_dim=6, num_heads=2, dropout=0.0, causal=True).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    nn.init.zeros_(layer.attention.out.weight)  # so that attention adds nothing
    nn.init.zeros_(layer.attention.out.bias)
    x = torch.randn(50, 4, 6, dtype=torch.float64)
    z = layer.hidden(layer.norm2(x))

    def tanh_form(z: Tensor) -> Tensor:
        return 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    exact = z * (1 + torch.erf(z / math.sqrt(2))) / 2
    torch.testing.assert_close(layer(x), x + layer.out(exact))
    z = torch.linspace(-6, 6, 100_001, dtype=torch.float64)
    torch.testing.assert_close(nn.functional.gelu(z, approximate="tanh"), tanh_form(z))
    farthest = (z * (1 + torch.erf(z / math.sqrt(2))) / 2 - tanh_form(z)).abs().max()
    assert 4.5e-4 < farthest < 5e-4


def test_attention_is_the_written_equation() -> None:
    attention = TransformerBlock(embed_dim=6, num_heads=2, dropout=0.0, causal=True).attention
    x = torch.randn(1, 4, 6)
    q, k, v = (x[0] @ w.T + b for w, b in zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True))
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        scores = q[:, head] @ k[:, head].T / math.sqrt(3)
        scores[torch.ones(4, 4).triu(1).bool()] = -math.inf  # nobody sees what comes later
        heads.append(scores.softmax(dim=1) @ v[:, head])
    expected = torch.cat(heads, dim=1) @ attention.out.weight.T + attention.out.bias
    torch.testing.assert_close(attention(x)[0], expected)
