"""What a model reads from files and writes to them: the weights that it starts from, and its checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from leyden.errors import UserError
from leyden.models.hyper_parameters import plain_hyper_parameters
from leyden.models.weight_files import check_fit, read_file, weights_in
from leyden.security import restrict_imports


class StoredModel(LightningModule):
    """A module that can start from the weights in a file, and whose checkpoints are plain data."""

    init_from: str | None = None  # a path until its weights are loaded; `hparams` and config.yaml keep it

    def on_fit_start(self) -> None:
        """Load the initial weights, unless the command line has done it: it does before callbacks see the model."""
        self.load_initial_weights()

    def load_initial_weights(self) -> None:
        """Load the weights that `init_from` names, unless they were loaded or a checkpoint has provided all weights.

        The names and shapes must be those of this model. Only the last layer may have another number of outputs: it
        then keeps the weights with which it was built. What belongs to a `loss` is not read.

        Raises:
            UserError: There is no such file, it cannot be read, or its weights do not fit.
        """
        if self.init_from is None:
            return
        path = Path(self.init_from)
        file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
        if not file.is_file():
            raise UserError(
                f"no weights at {file}: --model.init_from takes a checkpoint, the directory of a run that has a "
                "best.ckpt, or a file with a state_dict"
            )
        own, weights = (_without_loss(state) for state in (self.state_dict(), weights_in(read_file(file), file)))
        if not own.keys() & weights.keys():  # those of a network outside of a model
            weights = {f"network.{name}": tensor for name, tensor in weights.items()}
        layer = next(reversed(own), "").rpartition(".")[0]
        new = _other_outputs(weights, own, layer)
        sizes = [f"{len(weights.pop(name))} -> {len(own.pop(name))}" for name in new]
        fix = "; give the model the arguments it was trained with, only the number of its outputs may differ"
        check_fit(weights, own, f"the weights {file} do not fit {type(self).__name__}", fix)
        self.load_state_dict(weights, strict=False)
        head = f"; {layer.removeprefix('network.')}: {sizes[0]}, new" if sizes else ""
        count = f"{len(weights)} of {len(own) + len(new)} tensors"
        rank_zero_only(print)(f"init  {file}, {count}{head}", flush=True)
        self.init_from = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the weights of the checkpoint."""
        self.init_from = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the hyper-parameters as plain data."""
        checkpoint["hyper_parameters"] = plain_hyper_parameters(checkpoint.get("hyper_parameters", {}))

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> Self:
        """Load a model as Lightning does; the checkpoint can name classes of the allowed packages only.

        Args:
            args: The arguments of `LightningModule.load_from_checkpoint`, first the checkpoint's path.
            kwargs: Its further arguments, and arguments of the model that replace those in the checkpoint.
        """
        restrict_imports()
        return super().load_from_checkpoint(*args, **kwargs)


def _without_loss(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("loss_function.")}


def _other_outputs(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], layer: str) -> list[str]:
    """Return the tensors of another shape, if they are all of `layer` and differ in their first dimension only."""
    names = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    pairs = [(own[name], weights[name]) for name in names]
    same = all(a.ndim == b.ndim and a.shape[1:] == b.shape[1:] for a, b in pairs)
    return names if same and all(name.rpartition(".")[0] == layer for name in names) else []
