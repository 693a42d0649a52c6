"""Recurrent networks, which read an image row by row."""

from typing import Any

import torch
from torch import Tensor, nn

from leyden.errors import UserError
from leyden.models.tasks import Classifier


class RecurrentNetwork(nn.Module):
    """Recurrent layers over the rows of an image, and a linear head on their last state.

    Args:
        rnn: Layers over sequences (B, T, C*W).
        num_classes: Number of logits.
    """

    def __init__(self, rnn: nn.RNNBase, num_classes: int) -> None:
        super().__init__()
        self.rnn = rnn
        self.directions = 2 if rnn.bidirectional else 1
        self.head = nn.Linear(self.directions * rnn.hidden_size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        rows = x.transpose(1, 2).flatten(2)  # (B, T=H, C*W)
        _, state = self.rnn(rows)
        hidden = state[0] if isinstance(self.rnn, nn.LSTM) else state  # an LSTM's state is (hidden, cell)
        last = hidden[-self.directions :]  # of the last layer: (directions, B, hidden_size)
        logits: Tensor = self.head(last.transpose(0, 1).flatten(1))  # (B, directions * hidden_size) -> (B, classes)
        return logits


class RecurrentClassifier(Classifier):
    """A recurrent network that reads an image row by row, top to bottom, and classifies its last state.

    A row is one vector x of C*W numbers. From x and the previous state h (for an LSTM, h and c) the next state is:

    - `torch.nn.RNN` (Elman, 1990): h = tanh(W x + U h + b)
    - `torch.nn.LSTM` (Hochreiter and Schmidhuber, 1997; forget gate of Gers et al., 2000): gates i, f, o =
      sigmoid(W x + U h + b) and g = tanh(W x + U h + b), each with its own W, U, b; c = f c + i g; h = o tanh(c)
    - `torch.nn.GRU` (Cho et al., 2014): r, z = sigmoid(W x + U h + b); n = tanh(W x + b + r (U h + b'));
      h = (1 - z) n + z h. Torch applies the reset gate r after the matrix product; the paper applies it before it,
      n = tanh(W x + U (r h)), a different function of the same weights

    Each U is orthogonal at first (Saxe et al., 2014), so that signals neither grow nor shrink over the steps, and the
    bias of the forget gate is 1 (Jozefowicz et al., 2015), so that an LSTM keeps its state before it learns to forget.

    Args:
        rnn: Class of the layers: `torch.nn.RNN`, `torch.nn.LSTM` or `torch.nn.GRU`.
        hidden_size: Size of a layer's state, in each direction.
        num_layers: Number of layers; each reads the states of the one before.
        bidirectional: Whether a second network reads from bottom to top; the head gets the last state of both.
        dropout: Probability of dropping a value between two layers.
        kwargs: The arguments of `Classifier`.

    Raises:
        UserError: The samples are not images (C, H, W).
    """

    def __init__(
        self,
        rnn: type[nn.RNN] | type[nn.LSTM] | type[nn.GRU] = nn.LSTM,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(self.hparams["input_shape"]) != 3:
            raise UserError(f"{type(self).__name__} needs images (C, H, W), and its data are none")
        channels, _, width = self.hparams["input_shape"]
        layers = rnn(
            channels * width, hidden_size, num_layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
        )
        init_weights(layers)
        self.network = RecurrentNetwork(layers, self.num_classes)


@torch.no_grad()
def init_weights(rnn: nn.RNNBase) -> None:
    """Make each recurrent matrix orthogonal and the bias of each forget gate 1; the rest keeps torch's weights."""
    for name, parameter in rnn.named_parameters():
        gates = torch.split(parameter, rnn.hidden_size)  # torch stacks them: i, f, g, o in an LSTM, r, z, n in a GRU
        if name.startswith("weight_hh"):
            for gate in gates:  # (hidden_size, hidden_size)
                nn.init.orthogonal_(gate)
        elif name.startswith("bias") and isinstance(rnn, nn.LSTM):
            gates[1].fill_(1.0 if name.startswith("bias_ih") else 0.0)  # torch adds a second bias, bias_hh
