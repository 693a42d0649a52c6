"""What the command line says to a person who made a mistake: a few lines, exit code 2, no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from leyden.main import main

DIGITS = "configs/convnet_digits.yaml"

MISTAKES = {  # the words after `leyden fit --config configs/convnet_digits.yaml`, and what the answer must name
    "--trainer.max_epoch 2": ["trainer.max_epoch", "did you mean `trainer.max_epochs`"],  # no abbreviations
    "--optimizer torch.optim.Adam": ["did you mean `model.optimizer`"],
    "--lr_scheduler torch.optim.lr_scheduler.StepLR": ["did you mean `model.lr_scheduler`"],
    "--lr 0.1": ["did you mean `model.optimizer.lr`"],
    "--batch_size 8": ["did you mean `data.batch_size`"],
    "--trainer.num_nodes 2": ["MASTER_ADDR, MASTER_PORT and NODE_RANK", "torchrun"],
    "--max_epochs 2": ["did you mean `trainer.max_epochs`"],
    "--trainer.max_epochs two": ["trainer.max_epochs is two", "int"],
    "--trainer.accelerator gpuu": ["gpuu", "cpu"],
    "--trainer.strategy dddp": ["dddp", "ddp"],
    "--trainer.callbacks+=EarlyStoping": ["EarlyStoping", "did you mean `EarlyStopping`"],
    "--model ConvNett": ["ConvNett", "did you mean `ConvNet`"],
    "--model.dropuot 0.2": ["ConvNet", "dropuot", "did you mean `dropout`"],
    "--model.optimizer.lrr 3": ["SGD", "lrr", "did you mean `lr`"],
    "--model.activation torch.nn.ReLUU": ["ReLUU", "did you mean `ReLU`"],
    "--model.activation os.system": ["os.system", "ALLOWED_PACKAGES"],
    "--model.num_classes 20": ["num_classes is 20", "the data have 10"],
    "--model LinearRegression": ["LinearRegression", "out_features"],
    "--data.num_worker 2": ["DigitsDataModule", "num_worker", "did you mean `num_workers`"],
    "--data.batch_size 0.5": ["data.batch_size is 0.5", "int"],
    "--data.size 8": ["ConvNet does not fit DigitsDataModule", "(1, 8, 8)"],
    "--data.sampler Foo": ["data.sampler", "Foo"],
    "--data.val_size 1437": ["val_size", "1437"],
    "--data.drop_last true --data.batch_size 2000": ["batch_size", "drop_last"],
    "--ckpt_path nowhere": ["nowhere", "--ckpt_path"],
    "--ckpt_path last": ["there is no run in", "leyden fit"],
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").symlink_to(Path(__file__).parents[1] / "configs")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_answered_in_one_line_that_names_it(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", DIGITS, *words.split()]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    for part in MISTAKES[words]:
        assert part in line


YAML_MISTAKES = {
    "trainer: {max_epoch: 2}": ["trainer.max_epoch", "did you mean `trainer.max_epochs`"],
    "modle: ConvNet": ["modle", "did you mean `model`"],
    "model: {class_path: ConvNet, init_args: {dropot: 1}}": ["dropot", "did you mean `dropout`"],
    "model: {class_path: Conv}": ["Conv", "did you mean `ConvNet`"],
    "data: {class_path: os.system}": ["os.system", "ALLOWED_PACKAGES"],
    "model: {class_path: ConvNet": ["parsing"],
    "- 1": ["config"],
}


@pytest.mark.parametrize("text", YAML_MISTAKES)
def test_a_mistake_in_a_file_is_answered_likewise(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["fit", "--config", DIGITS, "--config", "mine.yaml"]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    for part in YAML_MISTAKES[text]:
        assert part in line


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_random_weights_are_never_evaluated(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--config", DIGITS]) == 2
    assert "--ckpt_path" in capfd.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"not a checkpoint at all"])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.ckpt").write_bytes(content)
    assert main(["test", "--ckpt_path", "some.ckpt"]) == 2
    assert "some.ckpt" in capfd.readouterr().err


def test_without_network_and_files_mnist_says_what_to_put_where(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leyden.data.mnist.MNISTDataModule.mirrors", ["http://127.0.0.1:9/"])  # nobody answers
    assert main(["fit", "--config", "configs/convnet_mnist.yaml", "--data.root", str(tmp_path)]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert str(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz") in line
    assert "f68b3c2dcbeaaa9fbdd348bbdeb94873" in line


def leyden(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "leyden", *words], capture_output=True, text=True, check=False)


def test_as_a_user_sees_it_a_mistake_is_under_six_lines_without_traceback() -> None:
    done = leyden("fit", "--config", DIGITS, "--trainer.max_epoch", "2")
    assert done.returncode == 2
    assert done.stdout == ""
    assert 0 < len(done.stderr.splitlines()) < 6
    assert "Traceback" not in done.stderr


def test_no_command_and_an_unknown_one_are_refused() -> None:
    assert leyden().returncode != 0
    unknown = leyden("fot")
    assert unknown.returncode == 2
    assert "no command `fot`; there are fit, validate, test, predict" in unknown.stderr


def test_version_and_help_answer_without_importing_torch() -> None:
    code = "import sys; from leyden.__main__ import main; main(); assert 'torch' not in sys.modules"
    for words in (["--version"], ["--help"], ["fit", "--help"], ["predict", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert 0 < len(done.stdout.splitlines()) < 70


def test_help_names_every_experiment_and_overlay() -> None:
    text = leyden("--help").stdout
    configs = Path(__file__).parents[1] / "configs"
    for file in [*configs.glob("*_*.yaml"), *configs.glob("with/*.yaml")]:
        assert file.name in text


@pytest.mark.parametrize("words", [["--model.help", "ConvNet"], ["--data.help=MNISTDataModule"]])
def test_the_help_of_a_class_is_short_enough_to_read(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *words])
    text = capsys.readouterr().out
    assert "known subclasses" not in " ".join(text.split())
    assert 20 < len(text.splitlines()) < 80
    assert "--model.dropout" in text or "--data.num_workers" in text


@pytest.mark.parametrize(
    ("option", "some", "others"),
    [
        ("model", ["ConvNet", "NetworkClassifier"], ["Task", "BoringModel"]),
        ("data", ["MNISTDataModule"], ["ArrayData"]),
    ],
)
def test_the_help_of_no_class_lists_the_classes_there_are(
    option: str, some: list[str], others: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", f"--{option}.help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for name in some:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line.split()) > 3  # its docstring's first line
    assert not any(name in line for line in lines for name in others)


def test_the_long_help_lists_what_the_trainer_takes() -> None:
    text = leyden("fit", "--help", "all").stdout
    assert "--trainer.accumulate_grad_batches" in text
