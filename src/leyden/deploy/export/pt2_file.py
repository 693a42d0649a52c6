"""Write and run pt2 files: programs of torch.export."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from leyden.deploy.export.program import quiet
from leyden.deploy.export.read_back import Run


def write_pt2(program: ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Write a program with its weights.

    Args:
        program: The program.
        metadata: What the file says about itself; `torch.export.load(path, extra_files=...)` reads it.
        path: The file, whose name ends in `.pt2`.
    """
    with quiet():
        torch.export.save(program, path, extra_files=dict(metadata))


def open_pt2(path: Path, threads: int) -> Run:
    """Return a function that runs a pt2 file that this process has just written: loading one unpickles.

    Args:
        path: The file.
        threads: Not used: torch has one number of threads for the process.
    """
    with quiet():
        network = torch.export.load(path).module()

    @torch.inference_mode()
    def run(inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        outputs: torch.Tensor = network(torch.from_numpy(inputs))
        return outputs.numpy()

    return run
