"""The table of predictions for image files."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor

from leyden.deploy.predictor import Predictor
from leyden.errors import UserError
from leyden.models.tasks import Regressor

TOP_K = 3


class PredictionsFile:
    """A CSV file with a row for each image, written batch by batch: after a kill its rows are complete.

    Its columns are those of a classifier (file, class, probability, class_2, probability_2, ... and, on request,
    `p(NAME)` of every class) or of a regressor (file, y0, y1, ...). Bytes of a file's name that are no UTF-8 are
    written as they are: Python reads them back with `errors="surrogateescape"`.

    Args:
        path: The file, which is replaced.
        predictor: What makes the predictions.
        top_k: How many of the most likely classes to write; None for 3, or all of fewer.
        all_classes: Whether to write the probability of every class.

    Raises:
        UserError: The file cannot be written.
    """

    def __init__(self, path: Path, predictor: Predictor, top_k: int | None = None, all_classes: bool = False) -> None:
        self.names = predictor.class_names
        self.top_k = top_k or min(TOP_K, len(self.names))
        self.all_classes = all_classes
        self.counts: Counter[str] = Counter()  # of the most likely classes
        try:
            self.file = path.open("wb")
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}): choose another file with --output") from error
        self._write_rows([["file", *self._header(predictor)]])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()

    def write(self, files: list[str], columns: dict[str, Tensor]) -> None:
        """Write the rows of a batch.

        Args:
            files: The images.
            columns: What `Predictor.run` returns for them.
        """
        values = (column.tolist() for column in columns.values())
        rows = self._classes(columns["probabilities"]) if self.names else map(list, zip(*values, strict=True))
        self._write_rows([file, *row] for file, row in zip(files, rows, strict=True))

    def _header(self, predictor: Predictor) -> list[str]:
        if isinstance(predictor.model, Regressor):
            return [f"y{i}" for i in range(predictor.model.out_features)]
        ranks = ["", *(f"_{rank}" for rank in range(2, self.top_k + 1))]
        every = [f"p({name})" for name in self.names] if self.all_classes else []
        return [f"{column}{rank}" for rank in ranks for column in ("class", "probability")] + every

    def _classes(self, probabilities: Tensor) -> Iterable[list[str | float]]:
        """Yield the cells of each image from the probabilities (B, C)."""
        ranked, order = probabilities.sort(dim=1, descending=True, stable=True)
        for classes, values, every in zip(order.tolist(), ranked.tolist(), probabilities.tolist(), strict=True):
            names = [self.names[index] for index in classes[: self.top_k]]
            self.counts[names[0]] += 1
            best = [cell for pair in zip(names, values, strict=False) for cell in pair]
            yield best + (every if self.all_classes else [])

    def _write_rows(self, rows: Iterable[list[str | float]]) -> None:
        """Append rows in one system call, so that a kill leaves no part of one."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self.file.write(text.getvalue().encode("utf-8", "surrogateescape"))
        self.file.flush()
