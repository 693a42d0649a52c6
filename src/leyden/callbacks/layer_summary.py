"""The table of a model's layers, fitted to the width of the terminal."""

import shutil
from typing import Any

from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_summary.model_summary import get_human_readable_count

LEAST_USEFUL_FIRST = (" ", "Mode", "FLOPs", "In sizes", "Out sizes")
GAP = "  "  # between two columns


class LayerSummary(ModelSummary):
    """Lightning's ModelSummary, without the columns that do not fit the terminal; a file has 80 characters.

    Args:
        max_depth: Depth of nested layers to show; 0 for no table.
    """

    def __init__(self, max_depth: int = 1) -> None:
        super().__init__(max_depth)

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Log the table and the number of parameters; `model_size` is in MB (1e6 bytes)."""
        columns = {title: [title, *cells] for title, cells in summary_data}
        available = shutil.get_terminal_size().columns
        for title in LEAST_USEFUL_FIRST:
            if _width(columns) > available:
                columns.pop(title, None)
        if (excess := _width(columns) - available) > 0:  # the end of a layer's name says more than its start
            kept = max(map(len, columns["Name"])) - excess
            columns["Name"] = [name if len(name) <= kept else f"..{name[2 - kept :]}" for name in columns["Name"]]
        widths = [max(map(len, cells)) for cells in columns.values()]
        rows = zip(*columns.values(), strict=True)
        lines = [GAP.join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
        counts = f"{get_human_readable_count(total_parameters).strip()} parameters ({model_size:.4g} MB)"
        trained = f"{get_human_readable_count(trainable_parameters).strip()} to train"
        table = "\n".join(line.rstrip() for line in [lines[0], "-" * _width(columns), *lines[1:]])
        rank_zero_info(f"\n{table}\n{counts}, {trained}\n")


def _width(columns: dict[str, list[str]]) -> int:
    return sum(max(map(len, cells)) for cells in columns.values()) + len(GAP) * (len(columns) - 1)
