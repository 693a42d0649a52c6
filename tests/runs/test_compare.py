"""`leyden compare`, on directories written by hand."""

import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest
import yaml

from leyden.runs.compare import describe, main

CHECKPOINT = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"monitor": "val/loss"}}
METRICS = """epoch,step,val/acc,val/loss,train/loss,test/acc
0,9,{acc},2.0,,
0,9,,,2.5,
1,19,0.75,1.0,,
2,29,0.7,1.5,,
3,30,,,,0.5
"""


def make_run(folder: Path, lr: float, acc: float, **model: object) -> Path:
    folder.mkdir(parents=True)
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": lr, "momentum": 0.9}}
    config = {
        "name": "x",
        "model": {"class_path": "leyden.models.mlp.MLP", "init_args": {"optimizer": optimizer, **model}},
        "trainer": {"callbacks": [CHECKPOINT], "max_epochs": 3},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(METRICS.format(acc=acc))
    return folder


def test_what_differs_is_shown_and_what_does_not_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    runs = [make_run(tmp_path / "a" / "1", 0.1, 0.25), make_run(tmp_path / "a" / "2", 0.2, 0.5, dropout=0.5)]
    assert main([*map(str, runs), "--output", str(tmp_path / "both.png")]) == 0
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    rows = {row[0]: row[1:] for row in cells if row}
    assert rows["model.optimizer.lr"] == ["0.1", "0.2"]
    assert rows["model.dropout"] == ["-", "0.5"]
    assert not any("momentum" in name or "max_epochs" in name for name in rows)
    assert rows["epochs"] == ["3", "3"]
    assert rows["best epoch"] == ["1", "1"]  # of the lowest val/loss, not of the highest accuracy
    assert rows["val/acc"] == ["0.75", "0.75"]
    assert rows["test/acc"] == ["0.5", "0.5"]
    assert matplotlib.image.imread(tmp_path / "both.png").shape == (540, 1200, 4)


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is no directory of a run: it has no config.yaml\n"


@pytest.fixture
def nine(tmp_path: Path) -> list[str]:
    """Nine runs of one experiment, and beside them what is no training run."""
    folder = tmp_path / "convnet_digits"
    for number in range(9):
        make_run(folder / f"2026-11-21_14-0{number}-00", 0.1 * 2**-number, 0.25, dropout=number / 10)
    for other in ("2026-11-21_15-00-00", "2026-11-21_16-00-00"):  # crashed, before and after metrics.csv was begun
        make_run(folder / other, 0.1, 0.25)
    (folder / "2026-11-21_15-00-00" / "metrics.csv").unlink()
    (folder / "2026-11-21_16-00-00" / "metrics.csv").write_text("epoch,step,train/loss\n0,4")
    make_run(folder / "2026-11-21_17-00-00_test-2", 0.1, 0.25)
    (folder / "2026-11-21_18-00-00_predict").mkdir()
    (folder / "notes.txt").touch()
    return [str(path) for path in sorted(folder.iterdir())]


def test_nine_runs_fit_a_terminal_of_80_columns_and_what_is_no_training_run_is_skipped_in_one_line(
    nine: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*nine, "--output", str(tmp_path / "all.png")]) == 0
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("skipped, as they are no training runs")
    for name in ("15-00-00", "16-00-00", "17-00-00_test-2", "18-00-00_predict", "notes.txt"):
        assert name in line
    assert max(len(line) for line in out.splitlines() if not line.startswith("curves ")) <= 80
    words = [text.split() for text in out.splitlines()]
    assert ["14-08-00", "dropout", "0.8", "3", "1", "0.75", "1", "0.5"] in words
    assert ["lr", "0.000390625"] in words
    assert "2026-11-21_" in out


def test_folders_of_which_none_is_a_training_run_are_an_error_in_one_line(
    nine: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(nine[-4:]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


def test_runs_without_a_validation_are_compared_without_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a" / "1", 0.1, 0.25)
    (run / "metrics.csv").write_text("epoch,step,train/loss\n0,9,2.5\n")
    assert main([str(run), "--output", str(tmp_path / "no.png")]) == 0
    assert capsys.readouterr().err == "no curves: none of these runs has a score of the validation\n"


def test_a_row_may_lack_any_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "a" / "1", 0.1, 0.25)
    (run / "metrics.csv").write_text("step,val/loss,lr,note\n9,2.0,,\n10,,0.1,fast\n19,1.0,,\n2")
    assert main([str(run), "--output", str(tmp_path / "one.png")]) == 0
    assert "val/loss" in capsys.readouterr().out


def test_a_run_is_described_by_what_differs_with_names_that_mean_one_option() -> None:
    rows = {"model.optimizer.lr": ["0.1", "0.2"], "model.head.lr": ["1", "1.5"], "data.batch_size": ["-", "8"]}
    assert describe(rows, 0) == "optimizer.lr 0.1, head.lr 1"
    assert describe(rows, 1) == "optimizer.lr 0.2, head.lr 1.5, batch_size 8"


def test_comparing_needs_no_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a" / "1", 0.1, 0.25)
    code = "import sys; import leyden.__main__ as m; sys.argv[1:] = ['compare', sys.argv[1]]\n"
    code += "try: m.main()\nexcept SystemExit as end: assert end.code == 0\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(run)], cwd=tmp_path, check=True, capture_output=True)
