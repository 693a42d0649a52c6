"""What `leyden` sets for its process before anything is imported: how threads wait, and how text is encoded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from leyden import PROJECT
from leyden.__main__ import _limit_spinning

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
SHORT = ["fit", "--config", DIGITS, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3"]
POLICY = "OMP_WAIT_POLICY"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def leyden(*words: str, **env: str) -> str:
    """Run the command line as a process of its own and return what it printed on both streams."""
    command = [sys.executable, "-m", "leyden", *words]
    done = subprocess.run(
        command, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="latin-1", check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("chosen", [None, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_idle_threads_sleep_unless_the_user_has_chosen_how_they_wait(
    chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.setenv(name, "0")  # so that it is deleted again
        monkeypatch.delenv(name)
    if chosen is not None:
        monkeypatch.setenv(chosen, "7")
    _limit_spinning()
    assert os.environ.get(POLICY) == {None: "PASSIVE", POLICY: "7"}.get(chosen)
    assert os.environ.get("GOMP_SPINCOUNT") == {None: "10000", "GOMP_SPINCOUNT": "7"}.get(chosen)


@pytest.mark.slow
def test_the_weights_are_the_same_to_the_bit_however_idle_threads_wait() -> None:
    for policy in ("ACTIVE", "PASSIVE"):
        leyden(*SHORT, "--name", policy, OMP_NUM_THREADS="2", **{POLICY: policy})
    files = [next(Path("runs", policy).glob("*/checkpoints/last.ckpt")) for policy in ("ACTIVE", "PASSIVE")]
    active, passive = (torch.load(file, weights_only=True)["state_dict"] for file in files)
    assert all(torch.equal(active[name], passive[name]) for name in active)


IDLE = """
import time, torch
x = torch.randn(400_000)
start = time.process_time()
for _ in range(200):
    x.exp()  # on both threads
    time.sleep(0.002)
print(time.process_time() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch has another OpenMP library")
@pytest.mark.skipif(os.cpu_count() == 1, reason="it takes two threads")
def test_threads_that_wait_take_the_cores_where_they_do_not_sleep() -> None:
    unset = {name: value for name, value in os.environ.items() if name not in (POLICY, "GOMP_SPINCOUNT")}
    spent = []
    for policy in ({}, {POLICY: "PASSIVE", "GOMP_SPINCOUNT": "10000"}):
        env = unset | policy | {"OMP_NUM_THREADS": "2"}
        spent.append(
            float(subprocess.run([sys.executable, "-c", IDLE], env=env, capture_output=True, check=True).stdout)
        )
    by_default, asleep = spent
    assert by_default > 2 * asleep


def test_help_is_shown_in_an_ascii_locale_with_a_mark_for_what_it_lacks() -> None:
    text = leyden("--help", **ASCII)
    assert "convnet_digits.yaml" in text
    assert text.isascii()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "overlay"),
    [(ASCII, None), ({"PYTHONIOENCODING": "latin-1"}, None), ({**ASCII, "PYTHONIOENCODING": "ascii"}, "ddp_cpu")],
)
def test_a_configuration_with_any_text_trains_in_any_locale(env: dict[str, str], overlay: str | None) -> None:
    Path("mine.yaml").write_text("# Größe ±1 →\nwandb: {notes: 'größe ±1 →'}\n", encoding="utf-8")
    more = ["--config", str(PROJECT / "configs" / "with" / f"{overlay}.yaml")] if overlay else []
    text = leyden(*SHORT, "--config", "mine.yaml", *more, "--name", "größe", **env)
    assert "epoch 1/1" in text
    (run,) = Path("runs/größe").iterdir()
    assert (run / "metrics.csv").is_file()
    assert leyden("test", "--ckpt_path", str(run), **env).count("test/acc") == 1
