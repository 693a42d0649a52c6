"""Recurrent networks against their written equations, step by step."""

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from leyden.errors import UserError
from leyden.models.recurrent import RecurrentClassifier

RNNS = [nn.RNN, nn.LSTM, nn.GRU]
MNIST = {"input_shape": (1, 28, 28), "num_classes": 10}
sigmoid, tanh = torch.sigmoid, torch.tanh


def step(kind: type[nn.RNNBase], xi: Tensor, hi: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The next state from the gates' two parts, W x + b and U h + b', (B, gates * hidden_size)."""
    if kind is nn.RNN:
        return tanh(xi + hi), c
    if kind is nn.LSTM:
        i, f, g, o = (xi + hi).chunk(4, dim=1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c
    (xr, xz, xn), (hr, hz, hn) = xi.chunk(3, dim=1), hi.chunk(3, dim=1)
    z = sigmoid(xz + hz)
    return (1 - z) * tanh(xn + sigmoid(xr + hr) * hn) + z * h, c


def run(kind: type[nn.RNNBase], w: dict[str, Tensor], suffix: str, rows: Tensor) -> list[Tensor]:
    """The states after each row of (B, T, features), in the order of reading."""
    h = c = torch.zeros(len(rows), w[f"weight_hh_{suffix}"].shape[1])
    states = []
    for x in rows.unbind(1):
        xi = x @ w[f"weight_ih_{suffix}"].T + w[f"bias_ih_{suffix}"]
        hi = h @ w[f"weight_hh_{suffix}"].T + w[f"bias_hh_{suffix}"]
        h, c = step(kind, xi, hi, h, c)
        states.append(h)
    return states


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forwards", "both-ways"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", RNNS)
def test_a_network_is_its_written_equations(kind: type[nn.RNNBase], num_layers: int, bidirectional: bool) -> None:
    model = RecurrentClassifier(
        rnn=kind,
        hidden_size=5,
        num_layers=num_layers,
        bidirectional=bidirectional,
        input_shape=(3, 6, 4),
        num_classes=7,
    )
    w = dict(model.network.rnn.named_parameters())  # type: ignore[union-attr]
    x = torch.randn(2, 3, 6, 4)
    rows = torch.stack([x[:, :, t].reshape(2, 12) for t in range(6)], dim=1)  # channel by channel in each row
    for layer in range(num_layers):
        states = run(kind, w, f"l{layer}", rows)
        last, rows_out = states[-1], torch.stack(states, dim=1)
        if bidirectional:
            states = run(kind, w, f"l{layer}_reverse", rows.flip(1))
            last = torch.cat([last, states[-1]], dim=1)
            rows_out = torch.cat([rows_out, torch.stack(states[::-1], dim=1)], dim=2)
        rows = rows_out
    head = model.network.head
    torch.testing.assert_close(model(x), last @ head.weight.T + head.bias)  # type: ignore[operator, union-attr]


def test_a_gru_resets_after_the_matrix_product_and_not_before_it_as_in_its_paper() -> None:
    model = RecurrentClassifier(rnn=nn.GRU, hidden_size=5, input_shape=(1, 4, 3), num_classes=2)
    rnn: nn.GRU = model.network.rnn  # type: ignore[union-attr, assignment]
    for parameter in rnn.parameters():
        nn.init.normal_(parameter)
    nn.init.zeros_(rnn.bias_hh_l0)  # type: ignore[arg-type]  # which the paper does not have
    w, u, b = rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0
    (ur, uz, un), rows = u.chunk(3), torch.randn(2, 4, 3)  # type: ignore[operator]
    after = before = torch.zeros(2, 5)
    for x in rows.unbind(1):
        xr, xz, xn = (x @ w.T + b).chunk(3, dim=1)  # type: ignore[operator]
        r, z = sigmoid(xr + after @ ur.T), sigmoid(xz + after @ uz.T)
        after = (1 - z) * tanh(xn + r * (after @ un.T)) + z * after
        r, z = sigmoid(xr + before @ ur.T), sigmoid(xz + before @ uz.T)
        before = (1 - z) * tanh(xn + (r * before) @ un.T) + z * before
    state = rnn(rows)[1][0]
    torch.testing.assert_close(state, after)
    assert (state - before).abs().max() > 0.01


def test_parameter_counts_are_literal() -> None:
    def count(**options: object) -> int:
        return sum(p.numel() for p in RecurrentClassifier(**options, **MNIST).parameters())  # type: ignore[arg-type]

    assert count(rnn=nn.RNN) == 21_514  # (28 + 128 + 2) x 128, and the head's 129 x 10
    assert count(rnn=nn.LSTM) == 82_186  # four times the first
    assert count(rnn=nn.GRU) == 61_962  # three times
    assert count(rnn=nn.GRU, hidden_size=10, num_layers=2, bidirectional=True) == 4_530  # 2x3x(400 + 320) + 210


@pytest.mark.parametrize("kind", RNNS)
def test_each_recurrent_matrix_starts_orthogonal(kind: type[nn.RNNBase]) -> None:
    rnn = RecurrentClassifier(rnn=kind, hidden_size=16, num_layers=2, bidirectional=True, **MNIST).network.rnn
    matrices = [u for name, p in rnn.named_parameters() if "weight_hh" in name for u in p.split(16)]  # type: ignore[union-attr]
    assert len(matrices) == 4 * {nn.RNN: 1, nn.LSTM: 4, nn.GRU: 3}[kind]
    for u in matrices:
        torch.testing.assert_close(u @ u.T, torch.eye(16), atol=1e-5, rtol=0)


def test_an_lstm_starts_with_a_forget_gate_bias_of_one_and_leaves_the_others_small() -> None:
    rnn = RecurrentClassifier(hidden_size=16, num_layers=2, bidirectional=True, **MNIST).network.rnn
    w = dict(rnn.named_parameters())  # type: ignore[union-attr]
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        i, f, g, o = (w[f"bias_ih_{suffix}"] + w[f"bias_hh_{suffix}"]).split(16)
        assert f.tolist() == [1.0] * 16
        assert torch.cat([i, g, o]).abs().max() <= 2 * 16**-0.5  # two of torch's own starts


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", RNNS)
def test_the_last_step_of_each_direction_reaches_the_head(kind: type[nn.RNNBase], bidirectional: bool) -> None:
    model = RecurrentClassifier(rnn=kind, hidden_size=8, num_layers=2, bidirectional=bidirectional, **MNIST)
    seen: dict[str, Tensor] = {}
    model.network.rnn.register_forward_hook(lambda m, args, out: seen.update(steps=out[0]))  # type: ignore[union-attr]
    model.network.head.register_forward_pre_hook(lambda m, args: seen.update(head=args[0]))  # type: ignore[union-attr]
    model(torch.randn(4, 1, 28, 28))
    last, first = seen["steps"][:, -1], seen["steps"][:, 0]  # reading backwards ends at the first row
    assert torch.equal(seen["head"], torch.cat([last[:, :8], first[:, 8:]], dim=1))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(UserError, match="RecurrentClassifier needs images"):
        RecurrentClassifier(input_shape=(10,), num_classes=10)


def test_a_python_run_reloads_with_weights_only(tmp_path: Path) -> None:
    data = torch.utils.data.TensorDataset(torch.randn(8, 1, 28, 28), torch.arange(8))
    model = RecurrentClassifier(rnn=nn.GRU, hidden_size=8, optimizer=partial(torch.optim.SGD, lr=0.1), **MNIST)
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=8))
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    loaded = RecurrentClassifier.load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True)
    assert type(loaded.network.rnn) is nn.GRU
    x = data.tensors[0]
    assert torch.equal(loaded(x), model(x))
