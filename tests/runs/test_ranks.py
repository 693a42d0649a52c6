"""What two ranks predict and mistake is what one process does."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leyden import PROJECT

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
TWO = ["--config", str(PROJECT / "configs" / "with" / "ddp_cpu.yaml"), "--data.batch_size=16"]


def leyden(*args: str) -> None:
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-m", "leyden", *args], env=env, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_two_ranks_write_the_predictions_and_mistakes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    leyden("fit", "--config", DIGITS, "--trainer.max_epochs=1", "--test_after_fit=false")
    (checkpoint,) = Path("runs").rglob("best.ckpt")
    rows = []
    for name, options in (("one", []), ("two", TWO)):
        for command in ("predict", "test"):
            leyden(command, "--ckpt_path", str(checkpoint), "--name", name, *options)
        (predictions,) = Path("runs", name).glob("*_predict/predictions.csv")
        with predictions.open(newline="") as file:
            rows.append([(row["index"], row["class"]) for row in csv.DictReader(file)])
        assert list(Path("runs", name).glob("*_test/mistakes.png"))
    assert rows[0] == rows[1]
    assert [int(index) for index, _ in rows[0]] == list(range(len(rows[0])))
