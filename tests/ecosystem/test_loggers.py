"""Lightning's own loggers: the configuration, the scores and the speed reach each, and a resumed run stays one run."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from leyden import PROJECT
from leyden.cli.main import main

pytestmark = pytest.mark.slow

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
FIT = ["fit", "--config", DIGITS, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3"]
ON = [
    "fit",
    "--ckpt_path",
    "last",
    "--trainer.max_epochs",
    "2",
    "--lr_scheduler=restart",
    "--model.optimizer.lr",
    "0.01",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run() -> Path:
    (directory,) = Path("runs/convnet_digits").iterdir()
    return directory


def scores(name: str) -> list[float]:
    with (run() / "metrics.csv").open() as lines:
        return [float(row[name]) for row in csv.DictReader(lines) if row[name]]


@pytest.mark.parametrize(
    "words", [["--trainer.logger+=TensorBoardLogger", "--trainer.logger.save_dir="], ["--config", "overlay"]]
)
def test_tensorboard_has_the_configuration_and_no_made_up_score(words: list[str]) -> None:
    overlay = str(PROJECT / "configs" / "with" / "tensorboard.yaml")
    assert main([*FIT, *(overlay if word == "overlay" else word for word in words)]) == 0
    folder = {file.parent for file in run().rglob("events.out.*")}.pop()
    events = EventAccumulator(str(folder)).Reload()
    content = events.PluginTagToContent("hparams")
    assert list(content) == ["_hparams_/session_start_info"]
    data = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    options = data.session_start_info.hparams
    assert options["model.optimizer.lr"].number_value == 0.02
    assert options["model.class_path"].string_value == "leyden.models.conv_net.ConvNet"
    assert not any("hp_metric" in tag for tag in events.Tags()["scalars"])
    assert events.Scalars("val/loss")[0].value == pytest.approx(scores("val/loss")[0])
    assert len(events.Scalars("samples_per_second")) == 1


def test_lightnings_csv_logger_has_the_configuration_beside_the_scores() -> None:
    assert main([*FIT, "--trainer.logger+=CSVLogger", "--trainer.logger.save_dir="]) == 0
    (file,) = run().rglob("hparams.yaml")
    assert yaml.safe_load(file.read_text())["model.optimizer.lr"] == 0.02
    assert (file.parent / "metrics.csv").is_file()
    assert not (run() / "hparams.yaml").exists()


def test_lightnings_wandb_logger_has_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.loggers import WandbLogger

    logged: list[Any] = []
    original = WandbLogger.log_hyperparams
    monkeypatch.setattr(WandbLogger, "log_hyperparams", lambda self, p: (logged.append(p), original(self, p)))
    assert main([*FIT, "--trainer.logger+=WandbLogger"]) == 0
    assert [params["model.optimizer.lr"] for params in logged if "model.optimizer.lr" in params] == [0.02]


def test_mlflow_has_the_configuration_and_a_resumed_run_is_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes ten seconds to make
    store = f"file:{Path.cwd()}/mlflow"
    assert main([*FIT, "--trainer.logger+=MLFlowLogger", "--trainer.logger.tracking_uri", store]) == 0
    assert main(ON) == 0
    client = tracking.MlflowClient(store)
    (found,) = client.search_runs([client.get_experiment_by_name("lightning_logs").experiment_id])
    assert found.info.run_id == (run() / "mlflow_run_id").read_text()
    assert found.data.params["model.optimizer.lr"] == "0.02"
    history = [metric.value for metric in client.get_metric_history(found.info.run_id, "val/loss")]
    assert history == pytest.approx(scores("val/loss"))
    assert len(history) == 2
    assert (
        main(
            ["test", "--ckpt_path", "last", "--trainer.logger+=MLFlowLogger", f"--trainer.logger.tracking_uri={store}"]
        )
        == 0
    )
    runs = client.search_runs([found.info.experiment_id])
    assert len(runs) == 2
    assert all("model.optimizer.lr" in one.data.params for one in runs)


def test_a_server_that_is_not_there_is_one_line_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = ["--trainer.logger+=MLFlowLogger", "--trainer.logger.tracking_uri", "http://127.0.0.1:9"]
    assert main([*FIT, *server]) == 1
    assert (
        "the mlflow logger failed: MlflowException: API request to http://127.0.0.1:9"
        in capsys.readouterr().err.splitlines()[-1]
    )
    assert not Path("runs").exists()
