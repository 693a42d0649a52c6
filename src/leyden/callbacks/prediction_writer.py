"""Write the predictions of a whole dataset to a CSV file."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from leyden.runs.directory import run_directory
from leyden.runs.ranks import gather_object


class PredictionWriter(BasePredictionWriter):
    """Write what `predict_step` returns to `predictions.csv` in the run's directory.

    One row for each sample, in the dataset's order: its index, then a column for each entry of the returned dict (for a
    classifier: class, probability). A tensor (B,) or a list of B numbers or strings is a column. A tensor (B, K) is K
    columns with the numbers 0 to K - 1 after the name; parts of a tuple are numbered the same way. Without a dict the
    name is `prediction`. Entries without one value for each sample are omitted, and a line names them. With several
    loaders, the column `loader` holds their number. Rank 0 gathers the rows of all ranks. Without any column no file is
    written.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file."""
        loaders = predictions if len(batch_indices) > 1 else [predictions]
        rows: list[tuple[int, int, dict[str, Any]]] = []  # loader, index, values
        omitted: dict[str, None] = {}
        for number, (batches, indices) in enumerate(zip(loaders, batch_indices, strict=True)):
            first = 0
            for i, batch in enumerate(batches):
                columns = dict(_columns("", batch))
                size = next((len(column) for column in columns.values() if column is not None), 0)
                numbers = indices[i] if indices else range(first, first + size)  # an iterable dataset has no indices
                first += size
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
            names = ", ".join(sorted(omitted))
            print(f"predictions.csv lacks {names}: not one number or string for each sample", flush=True)
        header = list(dict.fromkeys(name for _, _, values in rows for name in values))
        if not header:
            return
        with (directory / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            several = len(loaders) > 1
            writer.writerow(["loader"] * several + ["index", *header])
            for number, index, answer in sorted(rows, key=lambda row: row[:2]):
                writer.writerow([number] * several + [index, *(answer.get(name, "") for name in header)])


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
