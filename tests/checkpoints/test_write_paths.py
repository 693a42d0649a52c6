"""Where a run writes: in its own directory, or where its user says."""

from pathlib import Path

import pytest
import torch

from leyden import PROJECT
from leyden.cli.main import main

pytestmark = pytest.mark.slow

SHORT = ["fit", "--config", str(PROJECT / "configs" / "convnet_digits.yaml"), "--trainer.max_epochs=1"]
SHORT += ["--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]
SHORT += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
OWN_CHECKPOINT = """
trainer:
  callbacks:
    - class_path: ModelCheckpoint
      init_args: {dirpath: %s, filename: "{epoch}-{step}", monitor: val/acc, mode: max}
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def runs() -> list[Path]:
    return sorted(Path("runs", "convnet_digits").iterdir())


@pytest.mark.parametrize("name", ["../x", "{folder}/x"])
def test_a_name_that_leads_out_of_the_runs_is_refused(
    name: str, elsewhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*SHORT, "--name", name.format(folder=elsewhere)]) == 2
    assert "is no folder in runs/" in capfd.readouterr().err
    assert list(elsewhere.rglob("*")) == [elsewhere / "here"]


def test_a_logger_writes_where_its_user_says_and_else_into_the_run() -> None:
    loggers = ["--trainer.logger+=CSVLogger", "--trainer.logger.save_dir=mine"]
    loggers += ["--trainer.logger+=CSVLogger", "--trainer.logger.save_dir="]
    assert main([*SHORT, *loggers]) == 0
    (run,) = runs()
    folders = {str(file.parent) for file in Path().rglob("metrics.csv")}
    assert folders == {str(run), f"{run}/lightning_logs/version_0", "mine/lightning_logs/version_0"}


def test_metrics_csv_is_kept_in_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    logger = ["--trainer.logger=leyden.runs.metrics_logger.MetricsLogger", "--trainer.logger.save_dir=mine"]
    assert main([*SHORT, *logger]) == 2
    assert "MetricsLogger writes into the run's directory: leave its save_dir out" in capfd.readouterr().err


def test_best_and_a_run_mean_the_checkpoint_of_the_users_own_callback(capfd: pytest.CaptureFixture[str]) -> None:
    Path("own.yaml").write_text(OWN_CHECKPOINT % "out")
    assert main([*SHORT, "--config", "own.yaml"]) == 0
    (best,) = Path("out").iterdir()
    for wanted in ("best", str(runs()[0])):
        capfd.readouterr()
        assert main(["validate", "--ckpt_path", wanted]) == 0
        assert f"from  {best}, step 3" in capfd.readouterr().out


def test_fast_dev_run_leaves_nothing_that_last_or_best_mean(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(SHORT) == 0
    assert main([*SHORT, "--trainer.fast_dev_run=2"]) == 0
    assert sorted(file.name for file in runs()[1].rglob("*") if file.is_file()) == [".lock", "config.yaml"]
    assert main(["validate", "--ckpt_path", "last"]) == 0
    assert f"from  {runs()[0]}/checkpoints/last.ckpt" in capfd.readouterr().out


def test_a_checkpoint_from_elsewhere_writes_outside_of_the_run_only_where_its_user_says_so(
    elsewhere: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own.yaml").write_text(OWN_CHECKPOINT % (elsewhere / "out"))
    assert main([*SHORT, "--config", "own.yaml"]) == 0
    foreign = (runs()[0] / "checkpoints" / "last.ckpt").absolute()
    (elsewhere / "there").mkdir()
    monkeypatch.chdir(elsewhere / "there")
    more = ["fit", "--ckpt_path", str(foreign.rename("given.ckpt")), "--trainer.max_epochs=2", "--lr_scheduler=restart"]
    capfd.readouterr()
    assert main(more) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"would write outside of the run: trainer.callbacks.ModelCheckpoint.dirpath {elsewhere}/out;" in line
    assert not Path("runs").exists()

    assert main([*more, "--config", "../here/own.yaml"]) == 0  # the user's own words now
    assert main([*more, "--trainer.callbacks=null"]) == 0  # or other ones

    checkpoint = torch.load("given.ckpt", weights_only=True)
    checkpoint["config"]["name"] = "../x"
    torch.save(checkpoint, "named.ckpt")
    assert (
        main(
            [
                "fit",
                "--ckpt_path",
                "named.ckpt",
                "--trainer.max_epochs=2",
                "--lr_scheduler=restart",
                "--config",
                "../here/own.yaml",
            ]
        )
        == 2
    )
    assert "is no folder in runs/" in capfd.readouterr().err


def test_a_run_in_another_place_goes_on_there_by_its_directory_alone() -> None:
    assert main([*SHORT, "--trainer.default_root_dir=other"]) == 0
    (run,) = Path("other", "convnet_digits").iterdir()
    assert main(["fit", "--ckpt_path", str(run), "--trainer.max_epochs=2", "--lr_scheduler=restart"]) == 0
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 2
    assert not Path("runs").exists()
