"""Overlays can be stacked, unless two of them set one option to different values."""

from itertools import combinations
from pathlib import Path

import pytest

from leyden import PROJECT
from leyden.cli.main import main
from leyden.cli.overlays import check_overlays
from leyden.errors import UserError

OVERLAYS = {file.stem: str(file) for file in sorted((PROJECT / "configs" / "with").glob("*.yaml"))}
DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
CONTRADICTIONS = {
    ("bf16", "fp16"): "trainer.precision",
    ("batch_size_find", "ddp_cpu"): "trainer.accelerator",
    ("cutmix", "mixup"): "data.mix",
    ("ddp", "ddp_cpu"): "trainer.accelerator",
    ("ddp", "multinode"): "trainer.strategy.timeout",
    ("ddp_cpu", "fp16"): "trainer.accelerator",
    ("ddp_cpu", "multinode"): "trainer.accelerator",
    ("profile", "trace"): "trainer.profiler",
}


@pytest.mark.parametrize("pair", CONTRADICTIONS, ids=" and ".join)
def test_two_that_contradict_each_other_are_refused_by_name(pair: tuple[str, str]) -> None:
    one, other = (OVERLAYS[name] for name in pair)
    with pytest.raises(UserError, match=rf"{one} and {other} both set {CONTRADICTIONS[pair]}"):
        check_overlays([DIGITS, one, other])


def test_all_other_pairs_set_different_options() -> None:
    for pair in combinations(OVERLAYS, 2):
        if pair not in CONTRADICTIONS:
            check_overlays([OVERLAYS[name] for name in pair])


def test_only_overlays_are_compared(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("trainer: {precision: 32-true}\n")
    check_overlays([OVERLAYS["bf16"], str(mine)])


@pytest.mark.slow
@pytest.mark.parametrize("first", OVERLAYS)
def test_each_pair_is_parsed(first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for second in OVERLAYS:
        if second != first and tuple(sorted((first, second))) not in CONTRADICTIONS:
            files = [f"--config={file}" for file in (DIGITS, OVERLAYS[first], OVERLAYS[second])]
            with pytest.raises(SystemExit, match="0"):
                main(["fit", *files, "--print_config"])


def test_two_averages_of_the_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [f"--config={file}" for file in (DIGITS, OVERLAYS["ema"], OVERLAYS["swa"])]
    assert main(["fit", *files]) == 2
    assert "EMAWeightAveraging and SWA would both average the weights" in capfd.readouterr().err
    assert not list(tmp_path.glob("runs/*/*"))
