"""A run that is killed and resumed is one run in W&B, and no step of it is there twice."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import DIGITS, KEY, WandbServer, history, offline_folders, records

FIT = [sys.executable, "-m", "leyden", "fit"]
LONG = ["--config", DIGITS, "--trainer.max_epochs", "8", "--trainer.log_every_n_steps", "5"]
LONG += ["--checkpoint.min_interval=0:00:00"]  # also between the first two epochs


def metrics_steps(run: Path) -> list[int]:
    with (run / "metrics.csv").open() as lines:
        return sorted({int(row["step"]) for row in csv.DictReader(lines)})


def stopped_run(folder: Path, environment: dict[str, str], sign: int = signal.SIGKILL) -> Path:
    """Trains, and stops it in the third epoch; SIGKILL hits all its processes, wandb's own among them."""
    process = subprocess.Popen([*FIT, *LONG], cwd=folder, env=environment, start_new_session=True)
    while True:
        assert process.poll() is None
        time.sleep(0.05)
        for file in folder.glob("runs/*/*/metrics.csv"):
            if "\n2," in file.read_text():
                os.killpg(process.pid, sign) if sign == signal.SIGKILL else process.send_signal(sign)
                process.wait(timeout=60)
                return file.parent


def resume(folder: Path, environment: dict[str, str]) -> None:
    subprocess.run([*FIT, "--ckpt_path", "last"], cwd=folder, env=environment, check=True, timeout=200)


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "parts"), [(signal.SIGKILL, 1), (signal.SIGTERM, 2)])
def test_a_stopped_offline_run_goes_on_under_its_id_and_uploads_without_a_double_step(
    sign: int, parts: int, tmp_path: Path, surroundings: dict[str, str], wandb_server: tuple[str, type[WandbServer]]
) -> None:
    run = stopped_run(tmp_path, surroundings, sign)
    resume(tmp_path, surroundings)
    folders = offline_folders(run)
    assert len(folders) == parts  # what a kill has cut off was put aside
    assert len(list((run / "wandb").glob("killed-*"))) == 2 - parts
    name = (run / "wandb_id").read_text()
    assert {record["run_id"] for folder in folders for record in records(folder, "run")} == {name}
    steps = [row["_step"] for row in history(run)]
    assert steps == metrics_steps(run)  # sorted, each once, and none missing
    assert {row["trainer/global_step"] == row["_step"] for row in history(run)} == {True}

    address, server = wandb_server
    environment = surroundings | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": address}
    command = [sys.executable, "-m", "wandb", "sync", *map(str, folders)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=100)
    assert {upsert["name"] for upsert in server.upserts} == {name}
    assert [row["_step"] for row in server.rows] == steps


@pytest.mark.slow
def test_a_killed_online_run_goes_on_where_the_server_was_left(
    tmp_path: Path, surroundings: dict[str, str], wandb_server: tuple[str, type[WandbServer]]
) -> None:
    address, server = wandb_server
    environment = surroundings | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": address}
    run = stopped_run(tmp_path, environment)
    resume(tmp_path, environment)
    assert {upsert["name"] for upsert in server.upserts} == {(run / "wandb_id").read_text()}
    assert [row["_step"] for row in server.rows] == metrics_steps(run)
