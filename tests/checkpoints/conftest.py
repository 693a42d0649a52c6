"""A finished run, and ways in which a file can be damaged."""

import shutil
from pathlib import Path

import pytest
import torch

from ..processes import Server, run_of
from .test_kills import FIT


@pytest.fixture(scope="module")
def finished(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert server.run(*FIT, "--trainer.max_epochs=1", "--name", "run")[0] == 0
        return run_of("run").absolute()


@pytest.fixture
def run(finished: Path, leyden: Server) -> Path:
    """A copy of it in the current directory."""
    return Path(shutil.copytree(finished, Path("runs", "run", finished.name)))


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def with_a_flipped_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def foreign(file: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, file)


DAMAGES = [truncated, with_a_flipped_bit, empty, foreign]
