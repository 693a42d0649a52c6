"""What the command line says to a person who made a mistake: a few lines, exit code 2, no traceback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonargparse
import pytest

from leyden.cli.main import main

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
    "--data.sampler torch.utils.data.RandomSampler --data.sampler.replacemen true": ["RandomSampler", "`replacement`"],
    "--trainer.strategy DDPStrategy --trainer.strategy.timout 3": ["DDPStrategy", "did you mean `timeout`"],
    "--model NetworkClassifier --model.network torchvision.models.resnet18 --model.network.num_clases 9": [
        "model.network: resnet18",  # a function
        "did you mean `num_classes`",
    ],
    "--model NetworkClassifier": ["NetworkClassifier needs `network`: --model.network VALUE"],
    "--model.lr_scheduler torch.optim.lr_scheduler.StepLR": ["StepLR needs", "--model.lr_scheduler.step_size VALUE"],
    "--trainer.callbacks+=EarlyStopping": ["trainer.callbacks: EarlyStopping needs `monitor`"],
    "--trainer.logger+=CSVLogger": ["trainer.logger: CSVLogger needs `save_dir`"],
    "--trainer.logger+=TensorBoardLogger --trainer.logger.save_dir=. --trainer.logger.flush 3": ["no argument `flush`"],
    "--model torchvision.models.ResNet": ["--model NetworkClassifier --model.network torchvision.models.ResNet"],
    "--model torchvision.models.resnet18": ["--model NetworkClassifier --model.network torchvision.models.resnet18"],
    "--data MNIST": ["MNIST", "did you mean `MNISTDataModule`"],
    "--model.lr_scheduler ReduceLROnPlateau": ["lightning.pytorch.cli.ReduceLROnPlateau: write one of them in full"],
    "--model.optimizer.lr fast": ["model.optimizer.lr is fast, but must be float"],
    "--seed_everything 4294967296": ["seed_everything is 4294967296", "from 0 to 4294967295"],
    "--seed_everything -1": ["seed_everything is -1", "from 0 to 4294967295"],
    "--seed_everything true": ["seed_everything is True", "from 0 to 4294967295"],
    "--seed_everything 1.5": ["seed_everything is 1.5", "int"],
    "--ckpt_path nowhere": ["nowhere", "--ckpt_path"],
    "--ckpt_path last": ["there is no run in", "leyden fit"],
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").symlink_to(Path(__file__).parents[2] / "configs")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_answered_in_one_line_that_names_it(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", DIGITS, *words.split()]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    for part in MISTAKES[words]:
        assert part in line


@pytest.mark.parametrize("number", ["4294967296", "-1", "one", ""])
def test_a_seed_of_the_environment_is_checked_where_it_is_read(
    number: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", number)
    assert main(["fit", "--config", DIGITS, "--seed_everything", "false"]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line == f"error: PL_GLOBAL_SEED is {number}, but must be a whole number from 0 to 4294967295"
    assert not Path("runs").exists()


def test_the_largest_seed_is_taken() -> None:
    words = ["--trainer.fast_dev_run", "true", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", "--config", DIGITS, "--seed_everything", "4294967295", *words]) == 0


YAML_MISTAKES = {
    "trainer: {max_epoch: 2}": ["trainer.max_epoch", "did you mean `trainer.max_epochs`"],
    "modle: ConvNet": ["modle", "did you mean `model`"],
    "model: {class_path: ConvNet, init_args: {dropot: 1}}": ["dropot", "did you mean `dropout`"],
    "model: {class_path: Conv}": ["Conv", "did you mean `ConvNet`"],
    "data: {class_path: os.system}": ["os.system", "ALLOWED_PACKAGES"],
    "model: {class_path: ConvNet": ["mine.yaml, line 1"],
    "- 1": ["config"],
}


@pytest.mark.parametrize("text", YAML_MISTAKES)
def test_a_mistake_in_a_file_is_answered_likewise(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["fit", "--config", DIGITS, "--config", "mine.yaml"]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    for part in YAML_MISTAKES[text]:
        assert part in line


PARTS = {  # modules of a package that a fork has added to ALLOWED_PACKAGES
    "__init__": "",
    "broken_import": "import nonexistent_module\n",
    "imports_broken": "from my_parts import broken_import\n",
    "broken_syntax": "class Net:\n    def forward(self)\n        pass\n",
    "broken_name": "size = undefined_name\n",
    "parts": """
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int) -> None:
        raise ValueError("width must be even")

class MyCallback(Callback):
    def __init__(self) -> None:
        raise KeyError("label")

class MyLogger(CSVLogger):
    def __init__(self, save_dir: str) -> None:
        raise RuntimeError("the server does not answer")
""",
}
NETWORK = "--model NetworkClassifier --model.network my_parts"
PART_MISTAKES = {
    "--model my_parts.broken_import.Net": ["model: ", "broken_import.py, line 1: No module named 'nonexistent_"],
    "--model my_parts.imports_broken.Net": ["model: ", "broken_import.py, line 1: No module named 'nonexistent_"],
    "--model my_parts.broken_syntax.Net": ["model: ", "broken_syntax.py, line 2: expected ':'"],
    "--model.activation my_parts.broken_syntax.Net": ["broken_syntax.py, line 2: expected ':'"],
    "--model.optimizer my_parts.broken_import.Net": ["model.optimizer: ", "No module named 'nonexistent_module'"],
    "--trainer.callbacks+=my_parts.broken_import.Net": ["trainer.callbacks: ", "No module named 'nonexistent_"],
    f"{NETWORK}.broken_name.Net": ["broken_name.py, line 1: NameError: name 'undefined_name' is not defined"],
    f"{NETWORK}.parts.Net": ["model.network: Net needs `width`: --model.network.width VALUE"],
    f"{NETWORK}.parts.Net --model.network.width 3": ["error: Net: width must be even"],
    f"{NETWORK}.parts.Net --model.network.width wide": ["model.network.width is wide, but must be int"],
    "--model my_parts.parts.Net": ["--model NetworkClassifier --model.network my_parts.parts.Net"],
    "--trainer.callbacks+=my_parts.parts.MyCallback": ["error: MyCallback: KeyError: 'label'"],
    "--trainer.logger+=my_parts.parts.MyLogger --trainer.logger.save_dir=.": ["error: MyLogger: the server does"],
}


@pytest.fixture
def fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that is none of this project's, and may be imported."""
    (tmp_path / "my_parts").mkdir()
    for name, text in PARTS.items():
        (tmp_path / "my_parts" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    jsonargparse.set_parsing_settings(import_path_allowlist=["my_parts"])
    yield
    for name in [name for name in sys.modules if name.startswith("my_parts")]:
        del sys.modules[name]


@pytest.mark.usefixtures("fork")
@pytest.mark.parametrize("words", PART_MISTAKES)
def test_the_innermost_reason_is_told_of_a_part_that_is_not_ours(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", DIGITS, *words.split()]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    for part in PART_MISTAKES[words]:
        assert part in line


ALONE = {  # the words after `leyden fit`
    "": ["no model: name an experiment"],
    "--model ConvNet": ["no data: name an experiment"],
    "--config configs/with/bf16.yaml": [
        "bf16.yaml: no model",
        "an overlay",
        "configs/convnet_digits.yaml --",
    ],
    "--config configs/with/ddp.yaml": ["ddp.yaml: no model", "--config configs/convnet_digits.yaml --config"],
    "--config configs/with/on_device.yaml": ["on_device.yaml: no data", "an overlay"],
    "--config convnet_digits": ["no file", "did you mean `", "configs/convnet_digits.yaml`"],
    "--config configs/convnet_digit.yaml": ["did you mean `", "configs/convnet_digits.yaml`"],
    "configs/convnet_digits.yaml": ["did you mean `--config configs/convnet_digits.yaml`"],
    "convnet_digits": ["did you mean `--config ", "configs/convnet_digits.yaml`"],
    "quickly": ["`quickly` is not an option: write --NAME VALUE"],
}


@pytest.mark.parametrize("words", ALONE)
def test_without_an_experiment_the_line_says_how_to_name_one(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *words.split()]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    for part in ALONE[words]:
        assert part in line


@pytest.mark.parametrize(("text", "line"), [("trainer:\n\tmax_epochs: 2\n", 2), ("a: 1\nb:\n  c: 1\n\td: 2\n", 4)])
def test_a_tab_in_a_file_is_named_with_its_line(
    text: str, line: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["fit", "--config", DIGITS, "--config", "mine.yaml"]) == 2
    assert f"mine.yaml, line {line}: a tab" in capfd.readouterr().err


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


def test_no_command_and_an_unknown_one_are_refused_without_importing_torch() -> None:
    code = "import sys; from leyden.__main__ import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    for words, reason in ((["fot"], "no command `fot`"), ([], "a command is missing")):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {reason}; the commands are fit, validate, test, predict")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["--help", "fit --help", "compare --help"])
def test_help_may_be_cut_by_a_pipe(words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # nobody reads
    done = subprocess.run(
        [sys.executable, "-m", "leyden", *words.split()], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.stderr == ""


def test_version_and_help_answer_without_importing_torch() -> None:
    code = "import sys; from leyden.__main__ import main; main(); assert 'torch' not in sys.modules"
    for words in (["--version"], ["--help"], ["fit", "--help"], ["predict", "--help"], ["show", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert 0 < len(done.stdout.splitlines()) < 90


def test_help_names_every_experiment_and_overlay() -> None:
    text = leyden("--help").stdout
    configs = Path(__file__).parents[2] / "configs"
    for file in [*configs.glob("*_*.yaml"), *configs.glob("with/*.yaml")]:
        assert file.name in text


@pytest.mark.parametrize("words", [["--model.help", "ConvNet"], ["--data.help=MNISTDataModule"]])
def test_the_help_of_a_class_is_short_enough_to_read(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *words])
    text = capsys.readouterr().out
    assert "known subclasses" not in " ".join(text.split())
    assert 20 < len(text.splitlines()) < 90
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
