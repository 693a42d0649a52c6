"""`leyden repeat`: its processes, with a stand-in for `leyden fit`; and three seeds on three folds, killed twice."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from leyden import PROJECT
from leyden.runs.metrics import has_ended
from leyden.runs.repeat import main
from leyden.runs.repeat_plan import REPEAT

from ..processes import Server, run_of, wait_for
from .test_compare import make_run

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
THREE = ["--config", DIGITS, "--seeds", "3"]
STAND_IN = """#!{python}
import json, os, pathlib, signal, sys, time

stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
options = dict(arg[2:].split("=", 1) for arg in sys.argv if arg.startswith("--") and "=" in arg)
folder = pathlib.Path(options["trainer.default_root_dir"], options["name"])
names = ("{repeat}", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
print(json.dumps([sys.argv[1:], [os.environ.get(name) for name in names]]))
behaviour = json.loads(pathlib.Path("behaviour.json").read_text()).get(folder.name, [0, ""])
if behaviour[1]:
    print(behaviour[1])
start = time.monotonic()
if behaviour[0] == "hang":
    folder.joinpath("started").touch()
while behaviour[0] == "hang" and not stopped:
    time.sleep(0.01)
time.sleep(0.2)
if stopped:
    sys.exit(f"{{len(stopped)}} signals") if len(stopped) > 1 else sys.exit(143)
if behaviour[0] == 0:
    for run in pathlib.Path("done").iterdir():
        try:
            run.rename(folder / "2026-01-01_00-00-00")
            break
        except FileNotFoundError:  # another run has taken it
            pass
with open("times.txt", "a") as file:
    print(start, time.monotonic(), file=file)
sys.exit(behaviour[0])
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The executable that runs instead of Python; `behaviour.json` has the exit code and the output of some runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_ARRAY_TASK_ID", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for number in range(3):  # the runs that it "trains"
        run = make_run(tmp_path / "done" / str(number), 0.1, 0.25)
        (run / "launch.json").write_text('{"ended": true}')
    file = tmp_path / "stand_in"
    file.write_text(STAND_IN.format(python=sys.executable, repeat=REPEAT))
    file.chmod(0o755)
    behave()
    monkeypatch.setattr(sys, "executable", str(file))
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    yield file
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def behave(**behaviours: tuple[Any, str]) -> None:
    Path("behaviour.json").write_text(json.dumps({name.replace("_", "-"): value for name, value in behaviours.items()}))


def overlap() -> int:
    """How many of the runs were under way at the same time."""
    times = [tuple(map(float, line.split())) for line in Path("times.txt").read_text().splitlines()]
    return max(sum(start <= moment < end for start, end in times) for moment, _ in times)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_so_many_runs_go_on_at_a_time(jobs: int, stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*THREE, "--jobs", str(jobs)]) == 0
    assert overlap() == jobs
    out = capsys.readouterr().out
    assert "[3/3] seed" in out
    assert "3 of 3 runs; interval from 3 seeds" in out


def test_each_run_has_its_name_and_its_share_of_the_machine(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    assert main([*THREE, "--jobs", "2", "--wandb.mode", "offline"]) == 0
    devices = set()
    for seed in range(3):
        output = Path("runs", "convnet_digits", f"seed-{seed}", "output.txt").read_text()
        command, (name, threads, visible) = json.loads(output)
        assert command[:3] == ["-m", "leyden", "fit"]
        assert {f"--seed_everything={seed}", "--wandb.group=convnet_digits", "--wandb.mode"} <= {*command}
        assert (name, threads) == (f"convnet_digits/seed-{seed}", "4")
        devices.add(visible)
    assert devices == {"4,6", "5"}


def test_when_a_run_fails_the_others_go_on_and_the_same_command_trains_it_again(
    stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behave(seed_1=(1, "error: no memory"))
    assert main(THREE) == 1
    out, err = capsys.readouterr()
    reason = "exit code 1; error: no memory; see runs/convnet_digits/seed-1/output.txt"
    assert err == f"seed 1 failed: {reason}\n"
    assert f"missing: seed 1 ({reason})" in out
    assert "2 of 3 runs" in out
    assert main([*THREE, "--jobs", "0"]) == 1
    out = capsys.readouterr().out
    assert "missing: seed 1 (not trained)" in out
    assert len(Path("times.txt").read_text().splitlines()) == 3  # nothing was started
    behave()
    assert main(THREE) == 0
    assert len(Path("times.txt").read_text().splitlines()) == 4
    assert main(THREE) == 0
    assert len(Path("times.txt").read_text().splitlines()) == 4
    with Path("runs/convnet_digits/summary.csv").open(newline="") as lines:
        assert {row["runs"] for row in csv.DictReader(lines)} == {"3"}


def test_a_mistake_of_the_user_ends_the_command_with_one_line_and_leaves_nothing(
    stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behave(seed_0=(2, "error: model: ConvNet has no argument `dropuot`"))
    assert main(THREE) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: model: ConvNet has no argument `dropuot`\n")
    assert len(Path("times.txt").read_text().splitlines()) == 1
    assert list(Path("runs").iterdir()) == []
    assert main(["--config", DIGITS]) == 2
    assert capsys.readouterr().err.startswith("error: leyden repeat: give --seeds N")


def start(*args: str, **env: str) -> "subprocess.Popen[str]":
    """A `leyden repeat` of its own session, of the stand-in."""
    code = (
        f"import sys; sys.executable = {sys.executable!r}\nfrom leyden.runs.repeat import main; sys.exit(main({args}))"
    )
    python = Path(sys.executable).read_text().partition("\n")[0].removeprefix("#!")
    return subprocess.Popen(
        [python, "-c", code], env=os.environ | env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_a_signal_is_passed_on_once_and_no_other_run_begins(stand_in: Path) -> None:
    behave(seed_0=("hang", ""))
    process = start(*THREE)
    wait_for("runs/convnet_digits/seed-0/started")
    os.killpg(process.pid, signal.SIGTERM)  # as Ctrl-C does, to all processes in the foreground
    assert process.communicate()[1] == "SIGTERM: stopped; the same command goes on\n"
    assert process.returncode == 143
    assert "signals" not in Path("runs/convnet_digits/seed-0/output.txt").read_text()
    assert not Path("runs/convnet_digits/seed-1").exists()


def test_a_task_of_a_job_array_becomes_its_run(stand_in: Path) -> None:
    Path("runs/convnet_digits/seed-1_fold-1").mkdir(parents=True)  # which `leyden fit` makes
    assert start(*THREE, "--folds=2", "--jobs=4", SLURM_ARRAY_TASK_ID="3").wait() == 0
    assert has_ended(Path("runs/convnet_digits/seed-1_fold-1/2026-01-01_00-00-00"))
    assert [folder.name for folder in Path("runs/convnet_digits").glob("seed-*")] == ["seed-1_fold-1"]
    assert start(*THREE, "--folds=2", SLURM_ARRAY_TASK_ID="3").wait() == 0  # it has ended
    assert len(Path("times.txt").read_text().splitlines()) == 1
    process = start(*THREE, "--folds=2", SLURM_ARRAY_TASK_ID="6")
    assert process.communicate()[1] == "error: there is no run 6: the array of these 6 runs is --array=0-5\n"
    assert process.returncode == 2


def test_help_and_the_command_line_need_no_torch() -> None:
    code = "import sys; sys.argv[1:] = ['repeat', '--help']; from leyden.__main__ import main\n"
    code += "try: main()\nfinally: print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("usage: leyden repeat --config FILE [--seeds N] [--folds K]")
    assert out.endswith("False\n")


SHORT = ["--config", DIGITS, "--trainer.max_epochs=4", "--trainer.limit_train_batches=20"]


def kill_session(pid: int) -> None:
    """SIGKILL to all processes of a session, in all its process groups."""
    for process in Path("/proc").iterdir():
        with suppress(ValueError, ProcessLookupError):
            if os.getsid(int(process.name)) == pid:
                os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a session in /proc")
@pytest.mark.timeout(1500)  # eleven commands, and nine more in forks, on a slow machine
def test_three_seeds_on_three_folds_killed_twice_end_in_the_same_table(leyden: Server) -> None:
    command = [sys.executable, "-m", "leyden", "repeat", *SHORT, "--seeds=3", "--folds=3"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    for killed, jobs in (("seed-0_fold-0", 1), ("seed-0_fold-1", 2)):
        process = subprocess.Popen([*command, f"--jobs={jobs}"], env=env, start_new_session=True)
        try:
            wait_for(f"runs/convnet_digits/{killed}/*/checkpoints/last.ckpt")
        finally:
            kill_session(process.pid)
        assert process.wait() == -signal.SIGKILL
        assert not has_ended(next(Path("runs/convnet_digits", killed).glob("2*")))
    assert subprocess.run([*command, "--jobs=2"], env=env, check=False).returncode == 0
    assert len(list(Path("runs/convnet_digits").glob("seed-*/2*"))) == 9  # resumed in their own folders

    values: dict[str, dict[int, list[float]]] = {}
    for seed in range(3):
        for fold in range(3):
            options = [f"--seed_everything={seed}", "--data.folds=3", f"--data.fold={fold}"]
            assert leyden.run("fit", *SHORT, *options, f"--name=undisturbed/{seed}{fold}")[0] == 0
            (mine,) = Path(f"runs/convnet_digits/seed-{seed}_fold-{fold}").glob("2*")
            theirs = run_of(f"undisturbed/{seed}{fold}") / "metrics.csv"
            assert (mine / "metrics.csv").read_text() == theirs.read_text()
            with theirs.open(newline="") as lines:
                rows = [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(lines)]
            best = min((row for row in rows if "val/loss" in row), key=lambda row: row["val/loss"])
            for name, score in (best | rows[-1]).items():
                if name.startswith(("val/", "test/")):
                    values.setdefault(name, {}).setdefault(fold, []).append(score)

    with Path("runs/convnet_digits/summary.csv").open(newline="") as lines:
        table = {row["score"]: row for row in csv.DictReader(lines)}
    assert set(table) == set(values) == {"val/loss", "val/acc", "test/loss", "test/acc"}
    for name, folds in values.items():
        means = np.mean(list(folds.values()), axis=1)
        low, high = stats.t.interval(0.95, 2, loc=means.mean(), scale=stats.sem(means))
        expected = [means.mean(), np.std(list(folds.values()), ddof=1), low, high, 9]
        assert [float(table[name][key]) for key in ("mean", "sd", "low", "high", "runs")] == pytest.approx(expected)
