"""The pages are true: what they name exists, and every command and every file that they show works.

Blocks of code are fenced. A `console` block is run, line by line, in the order of the page and on small data; the
comment before it says so if it is not: `<!-- not run: needs an account -->`, or `<!-- run by tests/FILE.py::TEST -->`.
A `python` or `yaml` block is the content of the last file that the paragraph before it names.
"""

import importlib
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

import leyden.data
import leyden.models
from leyden import PROJECT
from leyden.cli.main import main
from leyden.models.conv_net import ConvNet

from .data.pictures import make_folder

README = PROJECT / "README.md"
PAGES = [README, PROJECT / "SECURITY.md", PROJECT / "data" / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = (  # their commands have tests of their own
    "configuration.md",
    "compatibility.md",
    "data.md",
    "deployment.md",
    "reliability.md",
    "tracking.md",
)
MARK = re.compile(
    r"<!-- (?:not run: (?:needs (?:an account|a GPU|a network)|takes minutes|starts a server)|run by (.*)) -->"
)
SHORT = ["--trainer.max_epochs=1", *(f"--trainer.limit_{split}_batches=2" for split in ("train", "val", "test"))]


class Block(NamedTuple):
    """A block of code on a page, and the paragraph before it."""

    language: str
    text: str
    before: str


def name_of(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(*match.groups(), text[: match.start()].rstrip().split("\n\n")[-1]) for match in FENCE.finditer(text)]


def names_in(file: Path) -> list[str]:
    return re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE)


def files(page: Path) -> dict[str, str]:
    """The files that a page has its reader make."""
    shown = [block for block in blocks(page) if block.language in ("python", "yaml")]
    return {re.findall(r"`([\w./]+\.(?:py|yaml))`", block.before)[-1]: block.text for block in shown}


def commands(page: Path) -> list[str]:
    """The commands of a page that are to be run."""
    run = [block.text for block in blocks(page) if block.language == "console" and not MARK.search(block.before)]
    return [line for text in run for line in text.replace("\\\n", "").splitlines()]


TESTS = {name for file in (PROJECT / "tests").rglob("*.py") for name in [file.name, *names_in(file)]}
NEW_FILES = {file for page in PAGES for file in files(page)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    for file, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text()):
        assert f"def {name}(" in (PROJECT / file).read_text(), f"{file}::{name}"
    for name in re.findall(r"`(test_\w+(?:\.py)?)`", page.read_text()):
        assert name in TESTS, name


def test_every_entry_of_the_notes_names_a_test() -> None:
    entries = [text for text in (PROJECT / "docs" / "notes.md").read_text().split("\n\n") if text.startswith("**")]
    assert len(entries) > 20
    for entry in entries:
        assert re.search(r"\b[Tt]ests?:\s+`tests/[\w/]+\.py::\w+`", entry), entry


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w/])((?:configs|src|tests|benchmarks|docs)/[\w./]+\w)", page.read_text()))
    assert named or page != README
    for path in named - NEW_FILES:
        assert "NAME" in path or (PROJECT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_page_that_a_page_links_to_exists(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_is_short_and_its_tree_leaves_no_source_folder_out() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    for folder in (PROJECT / "src" / "leyden").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"src/leyden/{folder.name}/" in text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_run_or_says_why_it_is_not(page: Path) -> None:
    outside = FENCE.sub("", page.read_text())
    assert "```" not in outside
    assert not re.search(r"^ {4}", outside, re.MULTILINE), "a block that is not fenced"
    assert len(re.findall("<!-- (?:not )?run", outside)) == len(MARK.findall(outside)), "an unknown reason"
    assert all(block.language in ("console", "python", "yaml", "text") for block in blocks(page))
    for command in commands(page):
        assert command.startswith(("leyden ", "python ")), command
    targets = re.findall(r"^make ([\w-]+)", "\n".join(block.text for block in blocks(page)), re.MULTILINE)
    assert all(f"\n{target}:" in (PROJECT / "Makefile").read_text() for target in targets)


def run(command: str) -> None:
    """Run a line of a console block, shortened."""
    program, *args = shlex.split(command, comments=True)
    args = [path for arg in args for path in (sorted(map(str, Path().glob(arg))) if "*" in arg else [arg])]
    if program == "python":
        sys.argv = [*args, "--trials=1", *SHORT]
        runpy.run_path(args[0], run_name="__main__")
    elif args[0] in ("compare", "report") or "--help" in args:
        subprocess.run([sys.executable, "-m", "leyden", *args], check=True)
    else:
        if args[0] == "fit" and not any(".help" in arg for arg in args):
            args += ["--data.val_size=100"] * any("_mnist" in arg or "_cifar10" in arg for arg in args)
            args += SHORT if "--ckpt_path" not in args else ["--trainer.max_epochs=2"] * ("restart" in args)
        try:
            assert main(args) == 0
        except SystemExit as end:  # after --print_config and a class's help
            assert end.code == 0  # noqa: PT017


def stop_a_run(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a run that SIGTERM has stopped in its first epoch."""
    training_step = ConvNet.training_step

    def stopped(self: ConvNet, *args: Any) -> Any:
        if self.trainer.global_step == 0:
            signal.raise_signal(signal.SIGTERM)
        return training_step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ConvNet, "training_step", stopped)
        with pytest.raises(SystemExit, match="143"):
            main(["fit", "--config", "configs/convnet_digits.yaml", "--name", "stopped", *SHORT])
    return max(Path("runs/stopped").iterdir())


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A folder with the configurations, images and tiny datasets, in which a new model or dataset can be named."""
    root = request.getfixturevalue("mnist_root")
    assert request.getfixturevalue("cifar10_root") == root
    monkeypatch.setenv("LEYDEN_DATA", str(root))
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PROJECT / "configs", "configs")
    make_folder(tmp_path / "pets", 20)
    Path("photos").mkdir()
    for name in ("7.png", "8.jpg"):
        Image.new("RGB", (40, 30), "white").save(Path("photos", name))
    for package in (leyden.data, leyden.models):
        folder = str(tmp_path / "src" / package.__name__.replace(".", "/"))
        monkeypatch.setattr(package, "__path__", [*package.__path__, folder])
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page.name in SLOW)) for page in PAGES if commands(page)],
    ids=name_of,
)
def test_every_command_of_a_page_works(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (files(README) | files(page)).items():
        file = workplace / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if file.suffix == ".py" and name.startswith("src/"):
            importlib.import_module(".".join(Path(name).with_suffix("").parts[1:]))
    directory = Path("runs")
    if any("runs/" in command for command in commands(page)):
        run("leyden fit --config configs/convnet_digits.yaml")  # as `make train` does
        (directory,) = Path().glob("runs/*/*")
    for command in commands(page):
        if re.search("fit --ckpt_path (last|runs/)(?!.*restart)", command):
            directory = stop_a_run(monkeypatch)
        run(re.sub(r"runs/\w+/\d{4}-[\d_-]+", str(directory), command))
