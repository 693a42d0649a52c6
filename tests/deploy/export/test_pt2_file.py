"""A pt2 file is a program with its metadata, for batches of any size."""

import zipfile
from pathlib import Path

import pytest
import torch

from leyden import PROJECT
from leyden.deploy.export.program import trace
from leyden.deploy.export.pt2_file import open_pt2, write_pt2

from .test_onnx_file import Flat


@pytest.fixture
def network() -> Flat:
    return Flat().eval()


@pytest.fixture
def file(tmp_path: Path, network: Flat) -> Path:
    path = tmp_path / "model.pt2"
    write_pt2(trace(network, torch.zeros(4, 3, 2, 2, dtype=torch.uint8)), {"license": "MIT"}, path)
    return path


@pytest.mark.parametrize("size", [1, 2, 7, 256])
def test_it_answers_as_the_network_for_batches_of_any_size(file: Path, network: Flat, size: int) -> None:
    images = torch.randint(0, 256, (size, 3, 2, 2), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(torch.from_numpy(open_pt2(file, 1)(images.numpy())), network(images))


def test_it_holds_its_metadata_and_no_path(file: Path) -> None:
    texts = {"license": ""}
    torch.export.load(file, extra_files=texts)
    assert texts == {"license": "MIT"}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            for path in (str(PROJECT), "site-packages"):
                assert path.encode() not in archive.read(name), name
