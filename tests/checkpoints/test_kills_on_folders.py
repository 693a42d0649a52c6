"""A run on a folder of images that is killed and started again ends in the bits of one that was not."""

import random
import signal
from pathlib import Path

import pytest

from ..data.pictures import make_folder
from ..processes import Server, result, wait_for

FIT = [
    "fit",
    "--model=ConvNet",
    "--data=ImageFolderDataModule",
    "--data.root=pictures",
    "--data.image_size=28",
    "--data.batch_size=8",
    "--data.augment+=leyden.data.transforms.RandomHorizontalFlip",
    "--trainer.max_epochs=3",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--checkpoint.every_n_train_steps=1",
]  # 11 steps an epoch
VARIANTS = {
    "cached": [],
    "cached, two workers": ["--data.num_workers=2"],
    "not cached": ["--data.cache=false"],
    "not cached, two workers": ["--data.cache=false", "--data.num_workers=2"],
    "mixed": ["--data.mix=leyden.data.mix.Mixup"],
    "mixed, two workers": ["--data.mix=leyden.data.mix.Mixup", "--data.num_workers=2"],
}


@pytest.fixture(autouse=True)
def pictures(leyden: Server) -> None:
    make_folder(Path("pictures"), 40)


def killed_and_resumed(leyden: Server, options: list[str], kills: int) -> None:
    draw = random.Random(len(options))
    code, text = leyden.run(*FIT, *options, "--name=whole")
    assert code == 0, text
    start = [*FIT, *options, "--name=killed"]
    for _ in range(kills):
        code, text = leyden.run(*start, at=("on_train_batch_end", draw.randint(2, 4), signal.SIGKILL))
        assert code == -9, text
        start = ["fit", "--ckpt_path=last", "--name=killed"]
    code, text = leyden.run(*start)
    assert code == 0, text
    assert "reading" not in text  # the cache is complete
    assert result("killed") == result("whole")


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_ten_kills_at_random_steps_change_nothing(leyden: Server, variant: str) -> None:
    killed_and_resumed(leyden, VARIANTS[variant], 10)


@pytest.mark.slow
def test_the_cache_and_the_workers_change_no_bit(leyden: Server) -> None:
    for number, options in enumerate(VARIANTS.values()):
        code, text = leyden.run(*FIT, *options, f"--name={number}")
        assert code == 0, text
    assert result("0") == result("1") == result("2") == result("3")


@pytest.mark.slow
def test_an_image_that_changes_between_two_starts_ends_the_resume(leyden: Server) -> None:
    at = ("on_train_batch_end", 5, signal.SIGKILL)
    assert leyden.run(*FIT, "--name=killed", at=at)[0] == -9
    make_folder(Path("pictures"), 1, first=40)
    code, text = leyden.run("fit", "--ckpt_path=last", "--name=killed")
    assert code == 2, text
    assert "error: the images in pictures or their split have changed since the checkpoint" in text


@pytest.mark.slow
def test_an_image_that_is_lost_during_the_run_ends_it_with_its_name(leyden: Server) -> None:
    process = leyden.start(
        *FIT, "--data.cache=false", "--data.num_workers=2", "--trainer.max_epochs=1000", "--name=lost"
    )
    wait_for("runs/lost/*/checkpoints/last.ckpt")
    for path in Path("pictures/red").iterdir():
        path.unlink()
    assert process.wait() == 1, process.text()
    line = process.text().strip().splitlines()[-1]
    assert line.startswith("error: red/"), process.text()
    assert "could be read before, and now not" in line
