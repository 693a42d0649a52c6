"""What a configuration, a checkpoint and an archive may not do, and where a key may not be."""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from leyden import PROJECT
from leyden.cli.main import main
from leyden.data.download import unpack
from leyden.errors import UserError
from leyden.models.conv_net import ConvNet
from leyden.security import check_command, check_yaml

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
SHORT = ["fit", "--config", DIGITS, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
HEX = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused before it writes a file, and returns all that it says."""

    def run(*words: str) -> str:
        capfd.readouterr()
        assert main(list(words)) == 2
        said = capfd.readouterr()
        assert said.err.strip().splitlines()[-1].startswith("error: ")
        assert not [path for path in Path("runs").rglob("*") if path.is_file()]
        return said.out + said.err

    return run


# --- code ---------------------------------------------------------------------------------------------------------


class Evil:
    """Unpickling it writes the file `canary`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("canary").absolute(), "ran")


@pytest.fixture
def evil_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported and writes the file `canary` when it is."""
    source = "from pathlib import Path\nPath('canary').write_text('ran')\nfrom torch.nn import ReLU as Evil\n"
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("evil_package", "leyden_evil", "torchmetrics_evil"):
        (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    return "evil_package"


EVIL_CLASSES = ["os.system", "evil_package.Evil", "leyden_evil.Evil", "torchmetrics_evil.Evil"]
EVIL_PARTS = {
    "model": '{"class_path": "CLASS", "init_args": {"command": "touch canary"}}',
    "data": '{"class_path": "CLASS", "init_args": {"command": "touch canary"}}',
    "model.activation": '{"class_path": "CLASS", "init_args": {"command": "touch canary"}}',
    "model.optimizer": "CLASS",
    "data.sampler": "CLASS",
    "trainer.callbacks": '[{"class_path": "CLASS", "init_args": {"command": "touch canary"}}]',
}


@pytest.mark.usefixtures("evil_module")
@pytest.mark.parametrize("part", EVIL_PARTS)
def test_a_class_outside_of_the_allowed_packages_is_not_even_imported(part: str, refused: Callable[..., str]) -> None:
    for name in EVIL_CLASSES if part == "model.activation" else EVIL_CLASSES[1:2]:
        value = EVIL_PARTS[part].replace("CLASS", name)
        assert "ALLOWED_PACKAGES" in refused("fit", "--config", DIGITS, f"--{part}={value}")
        nested: Any = json.loads(value) if value[0] in "[{" else value
        for key in reversed(part.split(".")):
            nested = {"init_args": {key: nested}} if key in ("activation", "optimizer", "sampler") else {key: nested}
        Path("evil.yaml").write_text(json.dumps(nested))
        assert "ALLOWED_PACKAGES" in refused("fit", "--config", DIGITS, "--config", "evil.yaml")
        assert not Path("canary").exists()


def test_an_allowed_module_is_no_way_to_what_it_has_imported(refused: Callable[..., str]) -> None:
    for path in ("torch.utils.data.dataloader.os.system", "leyden.runs.directory.os.system"):
        refused("fit", "--config", DIGITS, "--model.activation", path)


@pytest.fixture
def trained() -> Path:
    """The last checkpoint of a short run."""
    assert main([*SHORT, "--test_after_fit", "false"]) == 0
    (file,) = Path("runs").rglob("last.ckpt")
    return file


def changed(file: Path, key: str, **changes: Any) -> str:
    """A copy of a checkpoint with another configuration or other hyper-parameters."""
    checkpoint = torch.load(file, weights_only=True)
    checkpoint[key] |= changes
    torch.save(checkpoint, "evil.ckpt")
    return "evil.ckpt"


@pytest.mark.usefixtures("evil_module")
def test_what_a_checkpoint_names_does_not_run(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in EVIL_CLASSES[:2]:
        evil = {"class_path": name, "init_args": {"command": "touch canary"}}
        for command in ("fit", "test"):
            assert main([command, "--ckpt_path", changed(trained, "config", model=evil)]) == 2
            assert "ALLOWED_PACKAGES" in capfd.readouterr().err
        # the hyper-parameters are for Python; the command line goes by the configuration
        assert main(["test", "--ckpt_path", changed(trained, "hyper_parameters", activation=evil)]) == 0
        with pytest.raises(argparse.ArgumentError, match="not allowed"):
            ConvNet.load_from_checkpoint("evil.ckpt", weights_only=True)
        with pytest.raises(ValueError, match="allowlist"):
            ConvNet.load_from_checkpoint(changed(trained, "hyper_parameters", _instantiator=name), weights_only=True)
    assert not Path("canary").exists()


@pytest.mark.slow
def test_the_hyper_parameters_are_guarded_without_the_command_line_too(evil_module: str, trained: Path) -> None:
    file = changed(trained, "hyper_parameters", activation={"class_path": f"{evil_module}.Evil"})
    code = f"from leyden.models.conv_net import ConvNet; ConvNet.load_from_checkpoint({file!r}, weights_only=True)"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "site"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert "Importing 'evil_package.Evil' is not allowed" in done.stderr
    assert not Path("canary").exists()


def test_a_pickle_in_the_place_of_a_checkpoint_does_not_run(refused: Callable[..., str]) -> None:
    torch.save({"state_dict": {}, "config": Evil()}, "evil.ckpt")
    torch.save({"state_dict": {}, "config": Evil()}, "old.ckpt", _use_new_zipfile_serialization=False)
    for file in ("evil.ckpt", "old.ckpt"):
        for command in ("fit", "validate", "test", "predict"):
            assert file in refused(command, "--ckpt_path", file, "--config", DIGITS)
        words = ["--model", "TransferClassifier", "--model.backbone", "resnet18", "--model.image_size", "32"]
        assert main([*SHORT, *words, "--model.weights", file, "--name", "transfer"]) == 2
        assert main([*SHORT, "--model.init_from", file]) == 2
        for old in Path("runs").rglob("*.*"):
            old.unlink()
    assert not Path("canary").exists()
    torch.load("evil.ckpt", weights_only=False)
    assert Path("canary").exists(), "the pickle is not evil, and the test shows nothing"


@pytest.mark.parametrize("value", ["1", "y", "YES", "true"])
def test_an_environment_that_lets_checkpoints_run_code_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", value)
    assert "unset TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" in refused("fit", "--config", DIGITS)


def test_weights_only_cannot_be_switched_off(refused: Callable[..., str]) -> None:
    assert "weights_only is False" in refused("fit", "--config", DIGITS, "--weights_only", "false")
    Path("mine.yaml").write_text("weights_only: null\n")
    assert "weights_only is None" in refused("fit", "--config", DIGITS, "--config", "mine.yaml")


@pytest.mark.parametrize("address", ["https://example.org/a.ckpt", "s3://bucket/a.ckpt", "file:///tmp/a.ckpt"])
def test_a_checkpoint_at_an_address_is_refused(address: str, refused: Callable[..., str]) -> None:
    assert "download the file" in refused("test", "--ckpt_path", address)
    Path("mine.yaml").write_text(f"ckpt_path: {address}\n")
    assert "--ckpt_path on the command line" in refused("fit", "--config", DIGITS, "--config", "mine.yaml")


# --- files that say a thing twice ---------------------------------------------------------------------------------

TWICE = {
    "trainer: {max_epochs: 1}\nseed_everything: 1\ntrainer: {max_epochs: 2}\n": ("trainer", 1, 3),
    "data:\n  init_args:\n    batch_size: 1\n    val_size: 9\n    batch_size: 2\n": ("batch_size", 3, 5),
    "trainer:\n  callbacks+:\n    - class_path: EarlyStopping\n      class_path: Timer\n": ("class_path", 3, 4),
}


@pytest.mark.parametrize("text", TWICE)
def test_a_key_that_stands_twice_is_refused_with_its_lines(text: str, refused: Callable[..., str]) -> None:
    Path("mine.yaml").write_text(text)
    key, first, second = TWICE[text]
    said = refused("fit", "--config", DIGITS, "--config", "mine.yaml")
    assert f"mine.yaml: duplicate key `{key}`, in lines {first} and {second}" in said


def test_a_key_that_stands_twice_is_refused_wherever_yaml_is_read(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("trainer.yaml").write_text("max_epochs: 1\nmax_epochs: 2\n")
    assert "duplicate key `max_epochs`, in lines 1" in refused("fit", "--config", DIGITS, "--trainer", "trainer.yaml")
    optimizer = '{"class_path": "torch.optim.SGD", "init_args": {"lr": 1, "lr": 2}}'
    assert "duplicate key `lr`, in lines 1" in refused("fit", "--config", DIGITS, "--model.optimizer", optimizer)
    (tmp_path / "configs").mkdir()
    defaults = (PROJECT / "configs" / "defaults.yaml").read_text()
    (tmp_path / "configs" / "defaults.yaml").write_text(f"{defaults}\nseed_everything: 1\n")
    monkeypatch.setattr("leyden.cli.cli.PROJECT", tmp_path)
    assert "duplicate key `seed_everything`, in lines" in refused("fit", "--config", DIGITS)


def test_appending_to_a_list_and_aliases_are_no_repetition() -> None:
    check_yaml("callbacks: &a [1]\ncallbacks+: *a\nother: {callbacks: *a}\n", "mine.yaml")
    check_yaml("loop: &a {self: *a}\n", "mine.yaml")


# --- keys and tokens ----------------------------------------------------------------------------------------------

SECRETS = [  # not real; each has the form of a W&B API key
    HEX[:40],
    f"local-{HEX[:40]}",
    "wandb_v1_" + HEX,
]
SECRET_KEYS = ["api_key", "wandb_api_key", "token", "hf_token", "password", "client_secret"]
HARMLESS = [
    f"md5: {HEX[:32]}",
    f"checksum: {HEX}",
    f"commit: {HEX[:40]}",
    f"data: {{revision: {HEX[:40]}, sha1: {HEX[:40]}, checksums: {{train.gz: {HEX[:40]}}}}}",
    f"weights: /cache/models/snapshots/{HEX[:40]}/model.pt",
    "name: task-with-a-very-long-name-indeed-yes",
    "model: {cls_token: true, pad_token: 0, num_tokens: 512, tokens: [a, b], secretion: high}",
    "api_key: null",
    "token: false",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_value_that_looks_like_a_key_is_refused_and_not_repeated(secret: str) -> None:
    for words in (["--name", secret], [f"--name={secret}"], [f"--{secret}"], [f'--data={{"root": "{secret}"}}']):
        with pytest.raises(UserError, match="looks like") as error:
            check_command(words)
        assert secret.split("@")[0][-12:] not in str(error.value)
    for content in ({"data": {"init_args": {"root": secret}}}, {secret: {"a": 1}}, {"trainer": [{"b": [secret]}]}):
        with pytest.raises(UserError, match="looks like") as error:
            check_yaml(json.dumps(content), "mine.yaml")
        assert secret.split("@")[0][-12:] not in str(error.value)


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_key_that_is_named_like_a_secret_is_refused(key: str) -> None:
    for words in ([f"--data.{key}", "hunter22"], [f"--{key}=hunter22"], ["--data", f'{{"{key}": "hunter22"}}']):
        with pytest.raises(UserError, match=key) as error:
            check_command(words)
        assert "hunter22" not in str(error.value)


def test_no_command_prints_or_writes_a_key_that_it_is_given(refused: Callable[..., str]) -> None:
    secret = HEX[:40]
    Path("mine.yaml").write_text(json.dumps({"data": {"init_args": {"root": secret}}}))
    Path("keyed.yaml").write_text(json.dumps({secret: {"max_epochs": 1}}))
    Path("trainer.yaml").write_text(json.dumps({"strategy": secret}))
    for words in (
        ["--name", secret],
        [f"--{secret}"],
        ["--trainer.max_epochs", secret],
        ["--config", "mine.yaml"],
        ["--config", "keyed.yaml"],
        ["--trainer", "trainer.yaml"],
        ["--trainer.logger", json.dumps({"class_path": "CSVLogger", "init_args": {"token": secret}})],
    ):
        said = refused("fit", "--config", DIGITS, *words)
        assert "looks like" in said
        assert secret not in said


@pytest.mark.parametrize("text", HARMLESS)
def test_checksums_commits_and_tokens_of_a_language_model_are_no_secrets(text: str) -> None:
    check_yaml(text, "mine.yaml")


def test_no_shipped_configuration_is_taken_for_a_secret() -> None:
    for file in (PROJECT / "configs").rglob("*.yaml"):
        check_yaml(file.read_text(), file.name)


def test_a_key_of_the_environment_is_refused_as_a_value_whatever_its_form(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_API_KEY", "correct horse battery staple")
    said = refused("fit", "--config", DIGITS, "--name", "run of correct horse battery staple")
    assert "the value of MY_SERVICE_API_KEY" in said
    assert "horse" not in said
    monkeypatch.delenv("MY_SERVICE_API_KEY")
    check_command(["--name", "run of correct horse battery staple"])


def test_a_secret_that_a_checkpoint_remembers_goes_no_further(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--ckpt_path", changed(trained, "config", name=HEX[:40])]) == 2
    said = capfd.readouterr()
    assert "looks like" in said.err
    assert HEX[:40] not in said.out + said.err


@pytest.mark.slow
def test_a_key_in_the_environment_reaches_no_file_and_no_line_of_a_run(leyden: Any) -> None:
    canary = "c0ffee" * 6 + "dead"
    code, said = leyden.run(*SHORT, env={"WANDB_MODE": "offline", "WANDB_API_KEY": canary})
    assert code == 0, said
    files = [path for path in Path.cwd().rglob("*") if path.is_file()]
    assert {"config.yaml", "metrics.csv", "last.ckpt"} <= {path.name for path in files}
    for file in files:  # what was printed is one of them
        assert canary.encode() not in file.read_bytes(), file


# --- archives -----------------------------------------------------------------------------------------------------


def archive(*members: tuple[str, str, str]) -> Path:
    """A tar archive of members, each a name, a kind and what it holds or points to."""
    with tarfile.open("archive.tar.gz", "w:gz") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            if kind == "file":
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content.encode()))
            else:
                member.type, member.linkname = (tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE), content
                tar.addfile(member)
    return Path("archive.tar.gz")


def test_only_the_wanted_files_of_an_archive_are_unpacked() -> None:
    path = archive(("a/1", "file", "one"), ("a/2", "file", "two"), ("../outside", "file", "evil"))
    assert [file.read_text() for file in unpack(path, ["a/2", "a/1"], Path("to"))] == ["two", "one"]
    assert sorted(str(file) for file in Path().rglob("*")) == ["archive.tar.gz", "to", "to/a", "to/a/1", "to/a/2"]


@pytest.mark.parametrize(
    "member",
    [
        ("../outside", "file", "evil"),
        ("a/../../outside", "file", "evil"),
        ("a/1", "symlink", "../../outside"),
        ("a/1", "symlink", "/etc/passwd"),
        ("a/1", "hardlink", "../outside"),
    ],
)
def test_an_archive_writes_and_reads_nothing_outside_of_its_folder(member: tuple[str, str, str]) -> None:
    with pytest.raises(OSError, match=r"archive\.tar\.gz is not what it should be"):
        unpack(archive(member), [member[0]], Path("to"))
    assert not Path("outside").exists()
    assert not Path("to", "a", "1").exists()


def test_an_archive_without_the_file_is_refused() -> None:
    with pytest.raises(OSError, match="a/3"):
        unpack(archive(("a/1", "file", "one")), ["a/3"], Path("to"))
