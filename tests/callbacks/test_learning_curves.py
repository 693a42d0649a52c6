"""The picture of the learning curves when training ends."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from leyden.callbacks.learning_curves import LearningCurves
from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.models.mlp import MLP
from leyden.runs.metrics_logger import MetricsLogger


@pytest.mark.parametrize("options", [{"max_epochs": 2}, {"fast_dev_run": True}], ids=str)
def test_curves_are_drawn_when_training_ends_but_not_by_fast_dev_run(options: dict[str, Any], tmp_path: Path) -> None:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    logger = MetricsLogger(str(tmp_path))
    trainer = Trainer(
        accelerator="cpu", default_root_dir=tmp_path, logger=logger, callbacks=[LearningCurves()], **quiet, **options
    )
    data = SyntheticClustersDataModule(num_samples=300, val_size=100, batch_size=50)
    trainer.fit(MLP(input_shape=(10,), num_classes=10), data)
    assert (tmp_path / "curves.png").is_file() == ("max_epochs" in options)
