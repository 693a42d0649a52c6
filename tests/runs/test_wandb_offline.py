"""What an offline run leaves, read back by wandb's own reader."""

import csv
import json
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import wandb
import yaml

from leyden.cli.main import main

from .conftest import SHORT, history, offline_folders, records

CANARY = "feedfacefeedfacefeedfacefeedfacefeedface"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run, looked at from all sides."""
    folder = tmp_path_factory.mktemp("offline")
    words = ["--wandb.mode", "offline", "--wandb.tags", "[first,second]", "--wandb.notes", "a note"]
    words += ["--wandb.group", "a group", "--wandb.job_type", "a kind", "--wandb.name", "a name"]
    words += ["--wandb.log_model", "true", "--trainer.default_root_dir", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", CANARY)
        patch.delenv("WANDB_MODE", raising=False)
        patch.chdir(folder)
        words += ["--trainer.callbacks+=leyden.callbacks.training_monitor.GradientNorm"]
        assert main([*SHORT, *words]) == 0
    assert wandb.run is None
    (directory,) = (folder / "convnet_digits").iterdir()
    return directory


@pytest.fixture(scope="module")
def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records(offline_folders(run)[0], "summary"):
        found |= record["update"]
    return found


def test_each_step_that_was_logged_is_one_row_with_the_values_of_metrics_csv(
    run: Path, metrics: list[dict[str, str]]
) -> None:
    rows = history(run)
    assert [row["trainer/global_step"] for row in rows] == sorted({int(row["step"]) for row in metrics})
    for cells in metrics:
        (row,) = [row for row in rows if row["trainer/global_step"] == int(cells["step"])]
        for name, value in cells.items():
            if value and name != "step":
                assert row[name] == float(value)


def test_every_split_the_rate_the_speed_and_the_gradients_are_logged(run: Path) -> None:
    names = {name for row in history(run) for name in row}
    scores = {f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "acc")}
    others = {"epoch", "lr", "samples_per_second", "train/loss_step", "train/grad_norm"}
    assert scores | others <= names


def test_the_configuration_is_the_resolved_one_with_the_commit_and_the_number_of_parameters(run: Path) -> None:
    config: dict[str, Any] = {}
    for kind in ("run", "config"):
        for record in records(offline_folders(run)[0], kind):
            config |= record.get("config", record)["update"]
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert {name: config[name] for name in resolved} == resolved
    assert config["model"]["init_args"]["optimizer"]["init_args"]["momentum"] == 0.9
    assert config["model"]["init_args"]["lr_scheduler"]["class_path"].endswith("CosineAnnealingLR")
    assert config["parameters"] == config["trainable_parameters"] == 21_840
    assert "git" in config


def test_the_summary_has_the_best_and_the_last_scores(run: Path, metrics: list[dict[str, str]]) -> None:
    found = summary(run)
    losses = {float(row["val/loss"]): row for row in metrics if row["val/loss"]}
    best = losses[min(losses)]
    assert found["best/val/loss"] == float(best["val/loss"])
    assert found["best/val/acc"] == float(best["val/acc"])
    assert found["val/loss"] == list(losses)[-1]
    assert found["test/acc"] == next(float(row["test/acc"]) for row in metrics if row["test/acc"])


def test_flags_name_the_run(run: Path) -> None:
    (record,) = records(offline_folders(run)[0], "run")
    found = {name: record[name] for name in ("display_name", "notes", "run_group", "job_type", "tags", "project")}
    assert found == {
        "display_name": "a name",
        "notes": "a note",
        "run_group": "a group",
        "job_type": "a kind",
        "tags": ["first", "second"],
        "project": "leyden",
    }
    assert record["run_id"] == (run / "wandb_id").read_text()


def test_the_pictures_of_the_run_are_the_pictures_in_wandb(run: Path) -> None:
    media = offline_folders(run)[0] / "files" / "media"
    for name in ("curves", "confusion", "mistakes"):
        (file,) = (media / "images").glob(f"{name}_*.png")
        assert file.read_bytes() == (run / f"{name}.png").read_bytes()
        assert matplotlib.image.imread(file).shape[2] == 4


def test_the_worst_mistakes_are_a_table_with_truth_guess_and_confidence(run: Path) -> None:
    (artifact,) = [record for record in records(offline_folders(run)[0], "artifact") if record["type"] == "run_table"]
    files = {Path(file["path"]): Path(file["local_path"]) for file in artifact["manifest"]["contents"]}
    (name,) = [name for name in files if name.suffix == ".json"]
    table = json.loads(files[name].read_text())
    assert table["columns"] == ["image", "truth", "guess", "confidence"]
    for image, truth, guess, confidence in table["data"]:
        assert truth != guess
        assert 0.1 <= confidence <= 1
        file = files[Path(image["path"])]
        assert file.is_relative_to(run)
        assert matplotlib.image.imread(file, format="png").shape[:2] == (28, 28)


def test_the_checkpoints_are_an_artifact_under_the_aliases_best_and_last(run: Path) -> None:
    artifacts = [record for record in records(offline_folders(run)[0], "artifact") if record["type"] == "model"]
    for alias in ("best", "last"):
        (artifact,) = [record for record in artifacts if alias in record["aliases"]]
        (file,) = artifact["manifest"]["contents"]
        assert Path(file["local_path"]).read_bytes() == (run / "checkpoints" / f"{alias}.ckpt").read_bytes()


def test_the_key_is_in_no_file_of_the_run(run: Path) -> None:
    searched = [file for file in run.rglob("*") if file.is_file()]
    assert any(file.suffix == ".wandb" for file in searched)
    for file in searched:
        assert CANARY.encode() not in file.read_bytes(), file
