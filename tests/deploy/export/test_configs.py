"""Every experiment but the drawing ones can be exported in every format."""

import json
import re
from pathlib import Path

import pytest
import yaml

from leyden import PROJECT
from leyden.cli.main import main
from leyden.deploy.export import read_back

CONFIGS = sorted(
    file
    for file in (PROJECT / "configs").glob("*_*.yaml")
    if yaml.safe_load(file.read_text())["model"]["class_path"] != "ImageGPT"
)
UNTRAINED = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "1", "--test_after_fit", "false"]
SMALL = {  # no test downloads weights, and small images are faster
    "alexnet": ["--model.weights", "null", "--model.image_size", "64"],
    "resnet50": ["--model.weights", "null", "--model.image_size", "32"],
    "vgg16": ["--model.weights", "null", "--model.image_size", "32"],
}


@pytest.mark.slow
@pytest.mark.timeout(900)  # VGG-16 has 134 million parameters, written and read in three formats
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_the_files_of_an_experiment_answer_as_its_checkpoint(
    config: Path, mnist_root: Path, cifar10_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEYDEN_DATA", str(mnist_root))
    monkeypatch.chdir(mnist_root)
    monkeypatch.setattr(read_back, "MIN_ROUNDS", 1)
    monkeypatch.setattr(read_back, "SECONDS", 0)
    small = ["--data.val_size", "100"] if re.search("mnist|cifar10", config.stem) else []
    small += next((options for name, options in SMALL.items() if name in config.stem), [])
    assert main(["fit", "--config", str(config), *UNTRAINED, "--data.num_workers", "0", *small]) == 0
    assert main(["export", "--ckpt_path", "last", "--format", "all", "--output", "out", "--samples", "60"]) == 0
    files = json.loads(Path("out/export.json").read_text())["files"]
    assert [read["file"] for read in files] == ["model.onnx", "model.pt2", "model.safetensors"]
    for read in files:
        assert [*read["differences"]] == ["1", "2", "7", "256", "test"]
        assert max(read["differences"].values()) <= 1e-4
        assert read["equal"] in (1, None)
