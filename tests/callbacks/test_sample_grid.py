"""Images are drawn with the weights of best.ckpt, as the test is scored with them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor

from leyden.callbacks.sample_grid import SampleGrid
from leyden.cli.main import main
from leyden.models.image_gpt import ImageGPT

EXPERIMENT = """
model:
  class_path: ImageGPT
  init_args: {embed_dim: 8, num_layers: 1, num_heads: 1, num_samples: 1}
data:
  class_path: DigitsDataModule
  init_args: {size: 8, mean: 0.0, std: 1.0}
trainer: {max_epochs: 2, limit_train_batches: 2, limit_val_batches: 1, limit_test_batches: 1}
"""
FIRST_IS_BEST = ["--monitor", "val/bpd", "--mode", "max"]  # as training lowers it


@pytest.fixture
def drawn_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The weights of each drawing, in an empty folder with an experiment."""
    weights = []
    sample = ImageGPT.sample

    def recorded(model: ImageGPT, y: Tensor) -> Tensor:
        weights.append({name: weight.clone() for name, weight in model.state_dict().items()})
        return sample(model, y)

    monkeypatch.setattr(ImageGPT, "sample", recorded)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(EXPERIMENT)
    return weights


def weights_in(name: str) -> dict[str, Tensor]:
    (file,) = Path().glob(f"runs/own/*/checkpoints/{name}.ckpt")
    weights: dict[str, Tensor] = torch.load(file, weights_only=True)["state_dict"]
    return weights


def are_equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return all(torch.equal(weight, others[name]) for name, weight in some.items())


AVERAGING = ["--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging", "--trainer.callbacks.decay=0.5"]


@pytest.mark.parametrize("options", [[], ["--test_after_fit=false"], AVERAGING], ids=["", "no test", "averaged"])
def test_fit_and_predict_draw_with_the_weights_of_best(options: list[str], drawn_with: list[dict[str, Tensor]]) -> None:
    assert main(["fit", "--config", "own.yaml", *FIRST_IS_BEST, *options]) == 0
    best = weights_in("best")
    assert not are_equal(best, weights_in("last"))
    assert main(["predict", "--ckpt_path", "best"]) == 0
    assert len(drawn_with) == 2
    for weights in drawn_with:
        assert are_equal(best, weights)


def test_without_checkpoints_the_last_weights_draw(drawn_with: list[dict[str, Tensor]]) -> None:
    assert main(["fit", "--config", "own.yaml", "--trainer.enable_checkpointing=false"]) == 0
    assert len(drawn_with) == 1
    assert list(Path().glob("runs/own/*/samples.png"))


def test_a_trial_by_fast_dev_run_draws_nothing(drawn_with: list[dict[str, Tensor]]) -> None:
    assert main(["fit", "--config", "own.yaml", "--trainer.fast_dev_run=true"]) == 0
    assert drawn_with == []
    assert not list(Path().rglob("*.png"))


class Sampling(BoringModel):
    """Can sample, though it is no model of this project."""

    num_classes = 3

    def __init__(self, num_samples: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()

    def sample(self, y: Tensor) -> Tensor:
        return torch.rand(len(y), 1, 4, 4)


class Other(BoringModel):
    """Its `sample` is something else."""

    def sample(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("model", [Sampling(), Other()])
def test_any_model_that_can_sample_has_a_picture_and_others_are_ignored(model: BoringModel, tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        callbacks=[SampleGrid()],
        **quiet,
    )
    trainer.fit(model)
    assert (tmp_path / "samples.png").is_file() == isinstance(model, Sampling)
