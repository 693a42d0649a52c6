"""`leyden compare`, on directories written by hand."""

import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest
import yaml

from leyden.deploy.compare import main

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


def test_comparing_needs_no_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a" / "1", 0.1, 0.25)
    code = "import sys; import leyden.__main__ as m; sys.argv[1:] = ['compare', sys.argv[1]]\n"
    code += "try: m.main()\nexcept SystemExit as end: assert end.code == 0\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(run)], cwd=tmp_path, check=True, capture_output=True)
