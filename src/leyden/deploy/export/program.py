"""Trace a network with a batch of any size, which both ONNX and pt2 files are made of."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from leyden.errors import RunError


def trace(network: nn.Module, example: Tensor) -> ExportedProgram:
    """Return the program of a network for batches of any size.

    Args:
        network: The network, in evaluation mode.
        example: A batch of 2 or more: torch specialises a dimension of 1.

    Raises:
        RunError: torch.export cannot trace the network, or fixes the size of the batch.
    """
    batch = Dim("batch", min=1)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch raises many types
        reason = " ".join(str(error).partition("\n")[0].split())
        raise RunError(f"torch.export cannot trace the network ({type(error).__name__}: {reason})") from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for name in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"):
                    node.meta.pop(name, None)  # the paths of the source files on this machine
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and messages of torch and onnx off the console: what matters is checked in the written file."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
