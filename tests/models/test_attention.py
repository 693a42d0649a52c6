"""The transformer encoder against its written equations, and what follows from them."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset

from leyden.errors import UserError
from leyden.models.attention import AttentionClassifier

from .test_transformer import encoder_layer, norm, stirred

MNIST: dict[str, Any] = {"input_shape": (1, 28, 28), "num_classes": 10}


def test_the_whole_classifier_is_its_written_equations() -> None:
    model = AttentionClassifier(
        patch_size=(2, 3), embed_dim=8, num_heads=2, num_layers=2, input_shape=(3, 4, 6), num_classes=5
    )
    w, images = stirred(model.network), torch.randn(2, 3, 4, 6)
    patches = [images[:, :, i : i + 2, j : j + 3].reshape(2, 18) for i in (0, 2) for j in (0, 3)]
    x = torch.stack(patches, dim=1) @ w["embedding.linear.weight"].T + w["embedding.linear.bias"]
    x = x + w["embedding.position"]
    for i in (1, 2):
        x = encoder_layer({name.removeprefix(f"layer{i}."): p for name, p in w.items()}, x, num_heads=2)
    x = norm(x, w["norm.weight"], w["norm.bias"]).mean(dim=1)
    torch.testing.assert_close(model(images), x @ w["head.weight"].T + w["head.bias"])


def test_training_takes_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, seen = F.scaled_dot_product_attention, []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *args: seen.append(1) or fused(*args))
    AttentionClassifier(num_layers=3, **MNIST).train()(torch.zeros(1, 1, 28, 28)).sum().backward()
    assert len(seen) == 3


def test_a_pixel_reaches_the_token_of_its_own_patch_only() -> None:
    embedding = AttentionClassifier(patch_size=(2, 4), input_shape=(3, 4, 12), num_classes=2).network.embedding
    blank = torch.zeros(1, 3, 4, 12)
    for c, i, j in [(0, 0, 0), (1, 1, 3), (2, 1, 4), (0, 2, 3), (1, 3, 11)]:
        image = blank.clone()
        image[0, c, i, j] = 1
        changed = (embedding(image) != embedding(blank)).any(dim=2)[0]  # type: ignore[operator]
        assert changed.nonzero().flatten().tolist() == [(i // 2) * 3 + j // 4]  # two rows of three patches


def rows_as_tokens() -> AttentionClassifier:
    model = AttentionClassifier(patch_size=(1, 28), embed_dim=16, num_layers=2, **MNIST)
    stirred(model)
    return model


def test_exchanging_tokens_together_with_their_positions_changes_nothing() -> None:
    model, x, order = rows_as_tokens(), torch.randn(2, 1, 28, 28), torch.randperm(28)
    before = model(x)
    assert not torch.allclose(model(x[:, :, order]), before)  # positions do tell rows apart
    model.network.embedding.position.data = model.network.embedding.position.data[order]  # type: ignore[union-attr, index]
    torch.testing.assert_close(model(x[:, :, order]), before)


def test_without_positions_the_order_of_tokens_does_not_matter() -> None:
    model, x, order = rows_as_tokens(), torch.randn(2, 1, 28, 28), torch.randperm(28)
    model.network.embedding.position.data.zero_()  # type: ignore[union-attr, operator]
    torch.testing.assert_close(model(x[:, :, order]), model(x))


def test_parameter_counts_are_literal() -> None:
    def count(**options: Any) -> int:
        return sum(p.numel() for p in AttentionClassifier(**options).parameters())

    # layer: 2 norms 2x64, attention 4 x (64 + 1) x 64, mlp 64x128 + 128 + 128x64 + 64, 33 472 in all;
    # around the four of them: patches (16 + 1) x 64, positions 49 x 64, norm 2x64, head (64 + 1) x 10
    assert count(**MNIST) == 4 * 33_472 + 5_002 == 138_890
    # the same with patches (48 + 1) x 64 and 8x8 positions
    assert count(input_shape=(3, 32, 32), num_classes=10) == 4 * 33_472 + 8_010 == 141_898
    assert count(patch_size=(1, 28), embed_dim=8, num_heads=2, num_layers=1, mlp_ratio=1, **MNIST) == 1_026


def test_what_cannot_be_divided_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="embed_dim 64 must be a multiple of num_heads 5"):
        AttentionClassifier(num_heads=5, **MNIST)
    with pytest.raises(UserError, match=r"patches of 5x5 do not divide a sample of \(1, 28, 28\)"):
        AttentionClassifier(patch_size=5, **MNIST)
    with pytest.raises(UserError, match="patches of 28x3 do not divide"):
        AttentionClassifier(patch_size=(28, 3), **MNIST)
    with pytest.raises(UserError, match=r"do not divide a sample of \(10,\)"):
        AttentionClassifier(input_shape=(10,), num_classes=10)


def test_a_python_run_reloads_with_weights_only(tmp_path: Path) -> None:
    x = torch.randn(8, 1, 28, 28)
    model = AttentionClassifier(
        patch_size=(1, 28), embed_dim=8, num_layers=1, optimizer=partial(torch.optim.SGD, lr=0.1), **MNIST
    )
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(TensorDataset(x, torch.arange(8)), batch_size=8))
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    loaded = AttentionClassifier.load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True)
    assert torch.equal(loaded(x), model(x))
