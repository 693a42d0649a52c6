"""`make results`: what it measures again, what survives a stop, and what the rows say on the pages."""

import math
import random
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from leyden import PROJECT
from leyden.cli.main import main

sys.path.append(str(PROJECT / "benchmarks"))  # as for the scripts themselves
import classical
import results
import results_pages as pages
from results_pages import Row

CONFIG_TEXTS = {file.stem: yaml.safe_load(file.read_text()) for file in results.CONFIGS.glob("*.yaml")}
ROWS = results.without_old_prints(results.load(results.TABLE), CONFIG_TEXTS)
MODEL = {"class_path": "ConvNet", "init_args": {"dropout": 0.2}}
CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {"trainer": {"max_epochs": 10}},
    "slow": {"model": MODEL, "data": "MNISTDataModule"},
    "quick": {"model": MODEL, "data": "DigitsDataModule"},
    "quicker": {
        "model": {"class_path": "MLP"},
        "data": {"class_path": "DigitsDataModule", "init_args": {"batch_size": 8}},
    },
}
NAMES = ["slow", "quick", "quicker"]
SECONDS = {"slow": 700.0, "quick": 150.0, "quicker": 20.0}


def row_of(task: results.Task, **more: str) -> Row:
    """What a measurement of a task returns."""
    row = dict.fromkeys(results.COLUMNS, "") | task._asdict() | {"metric": "test/acc", "score": "0.9", "date": "today"}
    row |= {"data": "Digits", "test_error": "0.01", "cpu_seconds": str(SECONDS[task.config]), "peak_mib": "900"}
    return row | {"parameters": "10", "epochs": "3", "machine": "2 cores of a (very new) processor, no GPU"} | more


class Measured:
    """A fake measurement, which is stopped after some runs."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.tasks: list[results.Task] = []
        self.saved: list[Row] = []
        self.stop_after = stop_after

    def __call__(self, task: results.Task) -> Row:
        if len(self.tasks) == self.stop_after:
            raise KeyboardInterrupt
        self.tasks.append(task)
        return row_of(task)

    def save(self, rows: list[Row]) -> None:
        self.saved = rows

    def all(self, rows: list[Row], configs: dict[str, Any] = CONFIGS, names: list[str] = NAMES) -> "Measured":
        self.failed = results.measure_all(names, configs, rows, 1, self, self.save)
        return self

    @property
    def runs(self) -> list[tuple[str, str]]:
        return [(task.config, task.seed or task.model) for task in self.tasks]


def runs(*scores: float, metric: str = "test/acc", test_error: float = 0.005, mirror: str = "") -> list[Row]:
    """The runs of an experiment with these scores."""
    task = results.Task("quick", "ConvNet", "", "1")
    more = {"metric": metric, "test_error": str(test_error), "mirror": mirror}
    return [row_of(task._replace(seed=str(seed)), score=str(score), **more) for seed, score in enumerate(scores)]


def test_short_runs_have_five_seeds_longer_ones_three_and_long_ones_one() -> None:
    made = Measured().all([])
    seeds = {name: [seed for config, seed in made.runs if config == name and seed.isdigit()] for name in NAMES}
    assert seeds == {"slow": ["0"], "quick": ["0", "1", "2"], "quicker": ["0", "1", "2", "3", "4"]}


def test_the_shortest_experiments_come_first_and_those_of_unknown_time_before_them() -> None:
    old = [row_of(results.Task(name, "ConvNet", "0", "stale")) for name in ("slow", "quicker")]
    assert list(dict.fromkeys(name for name, _ in Measured().all(old).runs if name != "slow")) == ["quick", "quicker"]
    assert Measured().all(old).runs[0] == ("quick", "0")
    assert Measured().all(old).runs[-2:] == [("slow", "0"), ("slow", "logistic regression")]


def test_a_measurement_that_was_stopped_keeps_its_rows_and_goes_on_with_the_others() -> None:
    whole = Measured().all([])
    stopped = Measured(stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        stopped.all([])
    assert len(stopped.saved) == 4
    rest = Measured().all(stopped.saved)
    assert sorted(stopped.tasks + rest.tasks) == sorted(whole.tasks)
    assert rest.saved == whole.saved
    assert Measured().all(whole.saved).tasks == []


def test_only_what_is_named_is_measured() -> None:
    assert {name for name, _ in Measured().all([], names=["quick"]).runs} == {"quick"}


def test_a_baseline_is_computed_once_for_all_experiments_on_the_same_arrays() -> None:
    made = Measured().all([])
    assert sorted(what for _, what in made.runs if not what.isdigit()) == sorted(
        ["SVC", "3-NN", "logistic regression", "logistic regression"]  # on the digits, and once on MNIST
    )
    for name in ("quick", "quicker"):
        found = [row["model"] for row in made.saved if row["config"] == name and not row["seed"]]
        assert sorted(found) == ["3-NN", "SVC", "logistic regression"]


def test_a_changed_configuration_is_measured_again_and_its_old_rows_go() -> None:
    before = Measured().all([]).saved
    changed = CONFIGS | {"quick": CONFIGS["quick"] | {"trainer": {"max_epochs": 3}}}
    again = Measured().all(before, changed)
    assert again.runs == [("quick", "0"), ("quick", "1"), ("quick", "2")]  # the arrays are the same: no baseline
    assert len(again.saved) == len(before)
    assert len({row["fingerprint"] for row in again.saved if row["config"] == "quick" and row["seed"]}) == 1
    defaults = CONFIGS | {"defaults": {"trainer": {"max_epochs": 11}}}
    assert len(Measured().all(before, defaults).tasks) == 9


def test_comments_are_no_part_of_a_fingerprint_and_values_are() -> None:
    def fingerprint(text: str) -> str:
        return results.experiment_print(yaml.safe_load(text), {})

    assert fingerprint("# 98 %\nlr: 0.1  # high\n") == fingerprint("# 99 %\nlr: 1.0e-1\n")
    assert fingerprint("lr: 0.1") != fingerprint("lr: 0.2")


def test_a_baseline_depends_on_the_arrays_and_the_version_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(**init_args: object) -> str:
        data = {"class_path": "MNISTDataModule", "init_args": init_args}
        return classical.fingerprint({"model": "MLP", "data": data}, "SVC")

    assert fingerprint(batch_size=8, num_workers=2, augment=[]) == fingerprint()
    assert fingerprint(val_size=100) != fingerprint()
    before = fingerprint()
    monkeypatch.setattr("sklearn.__version__", "2.0")
    assert fingerprint() != before


def test_a_run_that_fails_leaves_an_old_result_and_is_tried_again_next_time(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(Measured):
        def __call__(self, task: results.Task) -> Row:
            if task.config == "quick":
                raise RuntimeError("leyden failed:\n...\nerror: no data\n")
            return super().__call__(task)

    old = row_of(results.Task("quick", "ConvNet", "0", "stale"))
    made = Failing().all([old], names=["quick", "slow"])
    assert made.failed == 1
    assert "quick ConvNet 0 error: no data" in capsys.readouterr().out
    assert [row for row in made.saved if row["config"] == "quick"] == [old]
    assert Measured().all(made.saved, names=["quick"]).runs[0] == ("quick", "0")


def test_the_table_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "TABLE", tmp_path / "results.csv")
    rows = Measured().all([]).saved
    results.save(rows)
    assert results.load(tmp_path / "results.csv") == rows
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_the_interval_is_that_of_students_t_in_closed_form() -> None:
    a, b = 0.3, 0.7  # one degree of freedom: the quantile is tan(pi (p - 1/2))
    assert pages.half_width([a, b]) == pytest.approx(math.tan(math.pi * 0.475) * (b - a) / 2)
    p, values = 0.975, [1.0, 2.0, 6.0]  # two: (2p - 1) / sqrt(2p (1 - p))
    quantile = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    assert pages.half_width(values) == pytest.approx(quantile * statistics.stdev(values) / math.sqrt(3))
    assert pages.half_width([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2.776 * math.sqrt(0.5), rel=1e-3)


def test_the_interval_holds_the_true_mean_19_times_in_20() -> None:
    draw = random.Random(0)
    held = 0
    for _ in range(2000):
        values = [draw.gauss(0, 1) for _ in range(5)]
        held += abs(statistics.mean(values)) < pages.half_width(values)
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("error", "decimals"),
    [(0.06, 2), (0.042, 2), (0.5, 1), (0.12, 2), (0.199, 2), (0.2, 1), (1.7, 1), (3.4, 0), (12, 0)],
)
def test_an_error_allows_digits_to_its_first_or_to_the_second_where_the_first_is_a_1(
    error: float, decimals: int
) -> None:
    assert pages.decimals(error) == decimals


def test_a_score_has_the_digits_of_its_interval() -> None:
    assert pages.score_cell(runs(0.9890, 0.9910)) == "99.0 ± 1.3 %"
    assert pages.score_cell(runs(0.99201, 0.99199, 0.9920)) == "99.200 ± 0.002 %"
    assert pages.score_cell(runs(0.0160, 0.0144, 0.0149, metric="test/loss")) == "mean squared error 0.015 ± 0.002"
    assert pages.score_cell(runs(1.8035, 1.8119, 1.8139, metric="test/bpd")) == "bits per pixel 1.810 ± 0.014"


def test_one_seed_has_the_digits_that_its_test_set_allows_and_says_so() -> None:
    def counted(score: float, images: int) -> float:
        data = type("Data", (), {"test_set": range(images)})
        return results.test_error("test/acc", score, None, data)

    assert pages.score_cell(runs(0.98757, test_error=counted(0.98757, 10_000))) == "98.8 %, one seed"
    assert pages.score_cell(runs(0.6383, test_error=counted(0.6383, 10_000))) == "63.8 %, one seed"
    assert pages.score_cell(runs(0.98889, test_error=counted(0.98889, 360))) == "99 %, one seed"
    assert pages.score_cell(runs(1.0, 1.0, test_error=counted(1.0, 1000))) == "100.0 ± 0.0 %"
    both = runs(0.8812, test_error=counted(0.8812, 10_000), mirror="0.8877")
    assert pages.score_cell(both) == "88.1 %, one seed; with the mirror image 88.8 %"


def test_the_error_of_the_test_set_is_that_of_its_samples() -> None:
    x, y = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(20_000, 3)
    data = type("Data", (), {"test_set": classical.ArrayDataset(x, y)})
    error = results.test_error("test/loss", 1.0, torch.nn.Identity(), data)
    assert error == pytest.approx(1.96 * math.sqrt(2 / 3 / 20_000), rel=0.05)  # the variance of a squared normal is 2


def test_baselines_stand_beside_with_the_digits_of_the_score() -> None:
    baselines = [row_of(results.Task("quick", name, "", "1"), score=score) for name, score in [("SVC", "0.98889")]]
    rows = [*runs(0.989, 0.991), *baselines]
    assert "| 99.0 ± 1.3 % | 2 | SVC 98.9 % |" in pages.readme_table(rows)
    assert "| 99.0 ± 1.3 % | 0, 1 | SVC 98.9 % |" in pages.full_table(rows)
    text = pages.header("# Purpose.\n#   command\n# old\nmodel: a\n", "quick", rows)
    assert text == (
        "# Purpose.\n#   command\n# test/acc 99.0 ± 1.3 % (95 %, 2 seeds), "
        "150 CPU seconds on 2 cores of a processor; SVC 98.9 %\nmodel: a\n"
    )


def test_the_pages_are_what_the_table_says() -> None:
    for file, table in ((results.PAGE, pages.full_table(ROWS)), (results.README, pages.readme_table(ROWS))):
        text = file.read_text()
        assert text == pages.with_table(text, table)


def test_the_readme_has_six_rows_and_the_page_has_all() -> None:
    experiments = {row["config"] for row in ROWS}
    shown = re.findall(r"^\| `(\w+)` \|", pages.readme_table(ROWS), re.MULTILINE)
    assert shown == list(pages.README_EXPERIMENTS)
    assert len(shown) == 6
    assert set(re.findall(r"^\| \[(\w+)\]", pages.full_table(ROWS), re.MULTILINE)) == experiments


def test_a_table_says_where_and_when_it_was_measured() -> None:
    first, second = runs(0.98, 0.99)
    same_day = pages.readme_table([first, second | {"machine": "another", "date": "today"}])
    assert "Machine: 2 cores of a (very new) processor, no GPU and another; measured today.\n" in same_day
    two_days = pages.readme_table([first | {"date": "2026-11-20"}, second | {"date": "2026-11-21"}])
    assert "measured 2026-11-20 to 2026-11-21.\n" in two_days


def test_a_result_of_an_earlier_configuration_is_marked() -> None:
    current = runs(0.98, 0.99)
    assert "\\*" not in pages.readme_table(current)
    old = [run | {"fingerprint": ""} for run in current]
    for text in (pages.readme_table(old), pages.full_table(old)):
        assert " % * |" in text
        assert text.endswith(
            "\n\\* Measured with an earlier version of the configuration; `make results` measures it again.\n"
        )
    header = pages.header("# Purpose.\n#   command\n# old\n", "quick", old)
    assert header.endswith("; of an earlier configuration\n")


@pytest.mark.parametrize("file", sorted(results.CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_header_is_what_the_table_says(file: Path) -> None:
    if any(row["config"] == file.stem for row in ROWS):
        assert file.read_text() == pages.header(file.read_text(), file.stem, ROWS)


def test_two_epochs_of_mlp_vectors_measure_the_initial_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def accuracy(seed: int) -> float:
        config = str(results.CONFIGS / "mlp_vectors.yaml")
        assert main(["fit", "--config", config, "--seed_everything", str(seed), "--trainer.max_epochs", "2"]) == 0
        return float(re.findall(r"test/acc ([\d.]+)", capfd.readouterr().out)[0])

    assert abs(accuracy(0) - accuracy(3)) > 0.1
    assert all(float(run["score"]) > 0.99 for run in pages.runs_of(ROWS, "mlp_vectors"))  # after ten
