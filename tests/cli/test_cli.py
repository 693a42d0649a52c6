"""What the command line does: run directories, order of configuration, checkpoints that stand alone."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from leyden import PROJECT
from leyden.cli.main import main
from leyden.data.digits import DigitsDataModule
from leyden.models.conv_net import ConvNet

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
OVERLAYS = PROJECT / "configs" / "with"
SHORT = ["fit", "--config", DIGITS, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def runs(name: str = "convnet_digits", root: str = "runs") -> list[Path]:
    return sorted((Path(root) / name).iterdir(), key=lambda run: (run / "config.yaml").stat().st_mtime_ns)


def config_of(run: Path) -> dict[str, dict[str, object]]:
    config: dict[str, dict[str, object]] = yaml.safe_load((run / "config.yaml").read_text())
    return config


def test_a_run_leaves_its_files_and_no_others() -> None:
    assert main(SHORT) == 0
    (run,) = runs()
    files = {str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()}
    assert files == {
        "config.yaml",
        "metrics.csv",
        "curves.png",
        "confusion.png",
        "confusion.csv",
        "mistakes.png",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
        ".lock",
    }
    assert (run / "curves.png").read_bytes().startswith(PNG)


def test_metrics_hold_loss_and_accuracy_of_every_split() -> None:
    assert main(SHORT) == 0
    (run,) = runs()
    with (run / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc"):
        (value,) = [float(row[name]) for row in rows if row[name]]
        assert 0 <= value < 10


def test_the_same_command_gives_the_same_weights_and_another_seed_others() -> None:
    for seed in ("3", "3", "4"):
        assert main([*SHORT, "--seed_everything", seed]) == 0
    first, again, other = (torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in runs())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_config_yaml_repeats_the_run() -> None:
    assert main([*SHORT, "--model.dropout", "0.3", "--data.batch_size", "20"]) == 0
    (first,) = runs()
    assert main(["fit", "--config", str(first / "config.yaml")]) == 0
    again = runs()[-1]
    assert again != first
    assert config_of(again) == config_of(first)
    weights = [torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (first, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_flags_win_over_later_configs_and_those_over_earlier_ones_and_defaults(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("trainer: {max_epochs: 7, log_every_n_steps: 7, limit_train_batches: 2}\n")
    (tmp_path / "two.yaml").write_text("trainer: {max_epochs: 8, log_every_n_steps: 8}\n")
    words = ["--trainer.max_epochs", "1", "--config", DIGITS, "--config", "one.yaml", "--config", "two.yaml"]
    assert main(["fit", *words]) == 0
    (run,) = runs()
    trainer = config_of(run)["trainer"]
    assert (trainer["max_epochs"], trainer["log_every_n_steps"], trainer["limit_train_batches"]) == (1, 8, 2)


def test_a_flag_wins_over_what_the_checkpoint_remembers() -> None:
    assert main(SHORT) == 0
    (first,) = runs()
    more = ["--trainer.max_epochs=2", "--lr_scheduler=restart", "--model.optimizer.lr=0.5", "--data.batch_size=10"]
    assert main(["fit", "--ckpt_path", str(first), *more]) == 0
    config = config_of(runs()[-1])
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["optimizer"]["init_args"]["lr"] == 0.5  # type: ignore[index]
    assert data["batch_size"] == 10  # type: ignore[index]
    assert config["trainer"]["limit_train_batches"] == 3  # from the checkpoint


def test_callbacks_of_an_overlay_are_appended(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(
        "trainer:\n  callbacks+:\n    - class_path: EarlyStopping\n      init_args: {monitor: val/acc, mode: max}\n"
    )
    assert main([*SHORT, "--config", "more.yaml"]) == 0
    (run,) = runs()
    names = [callback["class_path"].rpartition(".")[2] for callback in config_of(run)["trainer"]["callbacks"]]  # type: ignore[attr-defined]
    assert names[0] == "ModelCheckpoint"
    assert names[-1] == "EarlyStopping"


def test_a_replaced_list_inherits_nothing_from_the_one_it_replaces(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(
        "trainer:\n  callbacks:\n    - class_path: ModelCheckpoint\n      init_args: {dirpath: here}\n"
    )
    assert main([*SHORT, "--config", "other.yaml"]) == 0
    (run,) = runs()
    (callback,) = config_of(run)["trainer"]["callbacks"]  # type: ignore[misc]
    assert callback["init_args"]["monitor"] is None  # the default file's says val/loss


def test_a_checkpoint_alone_is_tested_from_any_folder_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def scores() -> list[str]:
        return [line for line in capsys.readouterr().out.splitlines() if "test/" in line]

    assert main([*SHORT, "--data.size", "20", "--model.activation", "torch.nn.Tanh"]) == 0
    trained = scores()
    (run,) = runs()
    checkpoint = (run / "checkpoints" / "best.ckpt").absolute()
    folder = tmp_path / "another"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for given in (checkpoint, checkpoint.parents[1]):
        assert main(["test", "--ckpt_path", str(given)]) == 0
        assert scores() == trained != []


def test_best_and_last_mean_those_of_the_newest_run() -> None:
    for epochs in ("1", "2"):
        assert main([*SHORT, "--trainer.max_epochs", epochs]) == 0
    assert main(["validate", "--ckpt_path", "last"]) == 0
    assert runs()[-1].name.endswith("_validate")
    assert main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3", "--lr_scheduler=restart"]) == 0
    last = torch.load(runs()[-1] / "checkpoints/last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (3, 9)


@pytest.mark.parametrize("mistake", ["--model.class_weights=[1,2]", "--trainer.max_epochs=0"])
def test_a_run_that_is_refused_is_not_the_last(mistake: str) -> None:
    assert main(SHORT) == 0
    assert main(["validate", "--ckpt_path", "last"]) == 0
    before = runs()
    assert main([*SHORT, mistake]) == 2
    assert runs() == before
    assert main(["test", "--ckpt_path", "last"]) == 0


def test_a_run_resumed_after_an_epoch_ends_in_the_bits_of_one_that_was_not_stopped() -> None:
    fit = [*SHORT, "--model.lr_scheduler.T_max", "30"]  # which reaches further than both
    assert main([*fit, "--trainer.max_epochs", "4"]) == 0
    assert main([*fit, "--trainer.max_epochs", "2"]) == 0
    assert main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"]) == 0
    whole, resumed = (torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in runs())
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_run_is_not_trained_again_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(SHORT) == 0
    assert main(["fit", "--ckpt_path", "last"]) == 2
    assert "this run is finished, at epoch 1 and step 3" in capfd.readouterr().err


def test_predictions_are_those_of_the_plain_network_in_the_order_of_the_test_set() -> None:
    assert main(SHORT) == 0
    (run,) = runs()
    assert main(["predict", "--ckpt_path", "best"]) == 0
    with (runs()[-1] / "predictions.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    model = ConvNet.load_from_checkpoint(run / "checkpoints/best.ckpt", weights_only=True).eval()
    data = DigitsDataModule()
    data.setup()
    with torch.no_grad():
        expected = model(data.normalize(data.test_set.x)).softmax(dim=1)
    assert [int(row["index"]) for row in rows] == list(range(360))
    assert [int(row["class"]) for row in rows] == expected.argmax(dim=1).tolist()
    found = torch.tensor([float(row["probability"]) for row in rows])
    torch.testing.assert_close(found, expected.max(dim=1).values, rtol=0, atol=1e-5)


def test_a_checkpoint_of_the_command_line_loads_in_python() -> None:
    assert main([*SHORT, "--model.activation", "torch.nn.Tanh", "--model.dropout", "0.3"]) == 0
    (run,) = runs()
    file = run / "checkpoints" / "best.ckpt"
    model = ConvNet.load_from_checkpoint(file, weights_only=True)
    weights = torch.load(file, weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert isinstance(model.network.activation1, torch.nn.Tanh)
    assert model.network.dropout3.p == 0.3  # type: ignore[union-attr]


def test_a_checkpoint_of_plain_python_loads_in_python_and_not_at_the_command_line_without_a_config(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = DigitsDataModule(batch_size=50)
    model = ConvNet(input_shape=data.input_shape, num_classes=10, activation=torch.nn.Tanh)
    trainer = Trainer(max_steps=1, logger=False, enable_progress_bar=False, enable_checkpointing=False)
    trainer.fit(model, data)
    file = tmp_path / "mine.ckpt"
    trainer.save_checkpoint(file)
    again = ConvNet.load_from_checkpoint(file, weights_only=True)
    assert isinstance(again.network.activation1, torch.nn.Tanh)
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(again.eval()(x), model.eval()(x))
    assert main(["test", "--ckpt_path", str(file)]) == 2
    assert "--config" in capfd.readouterr().err
    assert main(["test", "--ckpt_path", str(file), "--config", DIGITS, "--model.activation", "torch.nn.Tanh"]) == 0


def test_the_sampler_of_a_config_trains_on_its_two_samples_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.Tensor] = []
    training_step = ConvNet.training_step
    monkeypatch.setattr(
        ConvNet,
        "training_step",
        lambda self, batch, batch_idx: seen.append(batch[0]) or training_step(self, batch, batch_idx),
    )
    sampler = {"class_path": "torch.utils.data.SubsetRandomSampler", "init_args": {"indices": [10, 20]}}
    words = ["--data.sampler", json.dumps(sampler), "--data.augment", "null", "--trainer.max_epochs", "3"]
    assert main(["fit", "--config", DIGITS, *words]) == 0
    data = DigitsDataModule()
    data.setup()
    expected = data.normalize(data.train_set[torch.tensor([10, 20])][0])  # type: ignore[index]
    assert len(seen) == 3
    for batch in seen:
        assert len(batch) == 2
        assert torch.equal(batch, expected) or torch.equal(batch, expected.flip(0))


def test_switching_off_logger_checkpoints_summary_and_bar_leaves_nothing_of_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    switches = ["enable_checkpointing", "enable_model_summary", "enable_progress_bar", "logger"]
    with caplog.at_level("INFO"):
        assert main([*SHORT, *(f"--trainer.{name}=false" for name in switches)]) == 0
    (run,) = runs()
    files = {file.name for file in run.iterdir()}
    assert files == {"config.yaml", "confusion.png", "confusion.csv", "mistakes.png", ".lock"}
    assert "network.conv2" not in caplog.text


def test_a_single_callback_and_a_plain_true_logger_are_taken_as_lightning_takes_them() -> None:
    words = ["--trainer.logger", "true", "--trainer.callbacks", "RichModelSummary"]
    assert main([*SHORT, *words]) == 0
    (run,) = runs()
    assert list((run / "lightning_logs" / "version_0").glob("events.*"))  # TensorBoard's, where that is installed
    assert len(list(run.rglob("version_0/**/*.ckpt"))) == 1  # Lightning's own default


def test_the_run_goes_where_the_user_says() -> None:
    assert main([*SHORT, "--trainer.default_root_dir", "elsewhere", "--name", "mine"]) == 0
    (run,) = runs("mine", "elsewhere")
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert main(["test", "--ckpt_path", "best", "--trainer.default_root_dir", "elsewhere"]) == 0
    assert not Path("runs").exists()


def test_the_summary_shows_layers_parameters_and_output_shapes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert main(SHORT) == 0
    (line,) = [line for line in caplog.text.splitlines() if "network.conv2" in line]
    for part in ("Conv2d", "5.0 K", "[2, 10, 12, 12]", "[2, 20, 8, 8]"):
        assert part in line


def score(*words: str) -> float:
    """Run the command line as a process of its own and return the test accuracy that it logged."""
    done = subprocess.run(
        [sys.executable, "-m", "leyden", *words, "--trainer.enable_progress_bar", "false"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with (runs()[-1] / "metrics.csv").open() as lines:
        (value,) = [float(row["test/acc"]) for row in csv.DictReader(lines) if row["test/acc"]]
    return value


@pytest.mark.slow
def test_two_processes_and_bf16_score_as_one_process_in_float32_within_chance() -> None:
    plain = score("fit", "--config", DIGITS)
    assert plain >= 0.97
    # three standard errors of the difference between two accuracies of 98.5 % on 360 images
    chance = 3 * math.sqrt(2 * 0.985 * 0.015 / 360)
    assert abs(score("fit", "--config", DIGITS, "--config", f"{OVERLAYS}/bf16.yaml") - plain) <= chance
    assert abs(score("fit", "--config", DIGITS, "--config", f"{OVERLAYS}/ddp_cpu.yaml") - plain) <= chance
    assert len(runs()) == 3  # the two processes shared one directory


@pytest.mark.slow
def test_two_processes_evaluate_and_predict_every_sample_once() -> None:
    assert main(["fit", "--config", DIGITS, "--trainer.max_epochs", "2"]) == 0
    two = ["--config", f"{OVERLAYS}/ddp_cpu.yaml"]
    assert score("test", "--ckpt_path", "best", *two) == score("test", "--ckpt_path", "best")
    tables = []
    for words in ([], two):
        command = [sys.executable, "-m", "leyden", "predict", "--ckpt_path", "best", *words]
        subprocess.run(command, check=True, capture_output=True)
        tables.append(list(csv.reader((runs()[-1] / "predictions.csv").open())))
    assert [row[:2] for row in tables[0]] == [row[:2] for row in tables[1]]
    assert len(tables[0]) == 1 + 360


@pytest.mark.slow
def test_the_command_line_runs_from_python_without_main() -> None:
    words = ["fit", "--config", DIGITS, "--trainer.fast_dev_run", "true", "--wandb.mode", "disabled"]
    code = f"from leyden.cli.cli import CLI; cli = CLI({words}); assert cli.trainer.global_step == 1"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
