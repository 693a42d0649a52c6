"""Write the predictions of a whole dataset to a CSV file."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from leyden.callbacks.classifier_outputs import class_names
from leyden.models.tasks import Classifier
from leyden.runs.directory import run_directory, short_path
from leyden.runs.ranks import gather_object


class PredictionWriter(BasePredictionWriter):
    """Write what `predict_step` returns to `predictions.csv` in the run's directory.

    One row for each sample, in the dataset's order: its index, its file if the dataset has `files`, then a column for
    each entry of the returned dict. Those of a `Classifier` are class, truth (if the batches have labels) and
    probability, with the `class_names` of the data, and `p(NAME)` for each class on request.

    A tensor (B,) or a list of B numbers or strings is a column. A tensor (B, K) is K columns with the numbers 0 to
    K - 1 after the name; parts of a tuple are numbered the same way. Without a dict the name is `prediction`. Entries
    without one value for each sample are omitted, and a line names them. With several loaders, the column `loader`
    holds their number. Rank 0 gathers the rows of all ranks. Without any column no file is written.

    Args:
        all_classes: Whether to write the probability of every class.
    """

    def __init__(self, all_classes: bool = False) -> None:
        super().__init__(write_interval="epoch")
        self.all_classes = all_classes

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file."""
        loaders = predictions if len(batch_indices) > 1 else [predictions]
        names = class_names(trainer, pl_module.num_classes) if isinstance(pl_module, Classifier) else []
        files = getattr(getattr(trainer.predict_dataloaders, "dataset", None), "files", None)
        rows: list[tuple[int, int, dict[str, Any]]] = []  # loader, index, values
        omitted: dict[str, None] = {}
        for number, (batches, indices) in enumerate(zip(loaders, batch_indices, strict=True)):
            first = 0
            for i, batch in enumerate(batches):
                columns = dict(_columns("", self._named(batch, names)))
                size = next((len(column) for column in columns.values() if column is not None), 0)
                numbers = indices[i] if indices else range(first, first + size)  # an iterable dataset has no indices
                first += size
                if files and columns:
                    columns = {"file": [files[index] for index in numbers], **columns}
                complete = {
                    name: column
                    for name, column in columns.items()
                    if column is not None and len(column) == len(numbers)
                }
                omitted |= dict.fromkeys(columns.keys() - complete.keys())
                values = (dict(zip(complete, row, strict=True)) for row in zip(*complete.values(), strict=True))
                rows += [(number, index, answer) for index, answer in zip(numbers, values, strict=False)]
        directory = run_directory(trainer)
        rows = [row for part in gather_object(trainer, rows) for row in part]
        if not trainer.is_global_zero:
            return
        if omitted:
            listed = ", ".join(sorted(omitted))
            print(f"predictions.csv lacks {listed}: not one number or string for each sample", flush=True)
        header = list(dict.fromkeys(name for _, _, values in rows for name in values))
        if not header:
            return
        path = directory / "predictions.csv"
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            several = len(loaders) > 1
            writer.writerow(["loader"] * several + ["index", *header])
            for number, index, answer in sorted(rows, key=lambda row: row[:2]):
                writer.writerow([number] * several + [index, *(answer.get(name, "") for name in header)])
        print(f"file  {short_path(path)}", flush=True)

    def _named(self, batch: Any, names: list[str]) -> Any:
        """Replace the classes in the answers of a `Classifier` by names, and omit or name their probabilities."""
        if not names or not isinstance(batch, Mapping) or "probabilities" not in batch:
            return batch
        columns = {name: column for name, column in batch.items() if name != "probabilities"}
        for kind in columns.keys() & {"class", "truth"}:  # a label outside of the classes stays a number
            columns[kind] = [names[i] if 0 <= i < len(names) else i for i in columns[kind].tolist()]
        if self.all_classes:
            columns |= zip((f"p({name})" for name in names), batch["probabilities"].unbind(dim=1), strict=True)
        return columns


def _columns(name: str, part: Any) -> Iterator[tuple[str, list[Any] | None]]:
    """Yield each part of a batch's prediction as (name, values); values are None if they do not form a column."""
    title = name or "prediction"
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield from _columns(f"{name}.{key}" if name else str(key), value)
    elif isinstance(part, Tensor) and part.ndim in (1, 2):
        columns = part.unsqueeze(1) if part.ndim == 1 else part  # (B, K)
        for k, column in enumerate(columns.unbind(dim=1)):
            yield (f"{title}{k}" if columns.shape[1] > 1 else title), column.tolist()
    elif isinstance(part, list) and all(isinstance(value, str | int | float) for value in part):
        yield title, part
    elif isinstance(part, tuple | list):
        for i, value in enumerate(part):
            yield from _columns(f"{title}{i}", value)
    else:
        yield title, None
