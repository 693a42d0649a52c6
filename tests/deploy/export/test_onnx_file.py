"""A written ONNX file is complete, says nothing of the machine, and takes batches of any size."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from leyden import PROJECT
from leyden.deploy.export.onnx_file import check_file, open_onnx, write_onnx
from leyden.deploy.export.program import trace
from leyden.errors import RunError

NAMES = ("images", "probabilities")
METADATA = {"leyden_version": "1", "license": "MIT"}


class Flat(nn.Module):
    """A linear layer on raw pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, 2, 2) to (N, 3)."""
        probabilities: Tensor = self.layer(images.float().flatten(1)).softmax(dim=1)
        return probabilities


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    example = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    write_onnx(trace(Flat().eval(), example), NAMES, METADATA, path)
    return path


def test_the_ends_are_named_and_the_batch_has_a_symbol(file: Path) -> None:
    graph = onnx.load(file).graph
    (images,), (probabilities,) = graph.input, graph.output
    assert (images.name, probabilities.name) == NAMES
    sizes = [[d.dim_param or d.dim_value for d in end.type.tensor_type.shape.dim] for end in (images, probabilities)]
    assert sizes == [["N", 3, 2, 2], ["N", 3]]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_it_holds_the_metadata_and_no_path(file: Path) -> None:
    model = onnx.load(file)
    assert {part.key: part.value for part in model.metadata_props} == METADATA
    for trace_of in (str(PROJECT), str(Path(torch.__file__).parent), "site-packages", __file__):
        assert trace_of.encode() not in file.read_bytes()
    assert [part.name for part in file.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("size", [1, 2, 7, 256])
def test_it_runs_batches_of_any_size(file: Path, size: int) -> None:
    images = torch.randint(0, 256, (size, 3, 2, 2), dtype=torch.uint8)
    assert open_onnx(file, 1)(images.numpy()).shape == (size, 3)


def test_a_file_for_one_size_of_batch_is_refused(file: Path) -> None:
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, file)
    with pytest.raises(RunError, match="takes batches of 4 only"):
        check_file(file)


def test_a_damaged_graph_is_refused(file: Path) -> None:
    model = onnx.load(file)
    del model.graph.node[-1]
    onnx.save(model, file)
    with pytest.raises(RunError, match="not valid"):
        check_file(file)


class FixedBatch(nn.Module):
    """A network that knows its batch."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (4, 3, 2, 2) to (4, 12)."""
        return images.float().reshape(4, 12)


def test_a_network_that_fixes_its_batch_is_refused_before_a_file_is_written() -> None:
    with pytest.raises(RunError, match=r"torch.export cannot trace the network"):
        trace(FixedBatch(), torch.zeros(4, 3, 2, 2, dtype=torch.uint8))
