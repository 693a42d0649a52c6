"""`leyden report`: the page, and what it refuses."""

import csv
import importlib.util
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leyden.runs.report.command import main

from .conftest import METRICS, Page, make_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}\"'&"
Report = Callable[..., Page]


def rows_of(page: Page, caption: str) -> list[list[str]]:
    (table,) = (rows for text, rows in page.tables.items() if caption in text)
    return table


def test_the_values_on_the_page_are_those_of_the_metrics(tmp_path: Path, report: Report) -> None:
    page = report(make_run(tmp_path / "a" / "1"))
    written = [attributes["value"] for tag, attributes in page.elements if tag == "data"]
    rows = list(csv.DictReader(METRICS.splitlines()))
    names = ["train/loss", "val/acc", "val/loss"]
    expected = [
        [float(epoch)]
        + [float(next(row[name] for row in rows if row["epoch"] == epoch and row[name])) for name in names]
        for epoch in "012"
    ]
    assert [float(value or "nan") for value in written] == [number for row in expected for number in row]
    assert rows_of(page, "values of each epoch")[0] == ["epoch", *names]


def test_the_scores_are_those_of_the_best_epoch_and_of_the_test(tmp_path: Path, report: Report) -> None:
    text = report(make_run(tmp_path / "a" / "1")).text
    terms = re.findall(r"(\S[^\n]*)\n?", text[text.index("Scores") : text.index("Scores of the validation")])
    for score in ("test/acc0.625", "test/loss1.375", "val/acc0.75", "val/loss1.099", "best epoch1", "epochs3"):
        assert score in terms


def test_the_confusion_matrix_is_a_table(tmp_path: Path, report: Report) -> None:
    page = report(make_run(tmp_path / "a" / "1"))
    assert rows_of(page, "a row for each true class") == [
        ["true", "cat", "dog", "right"],
        ["cat", "3", "1", "75.0 %"],
        ["dog", "2", "4", "66.7 %"],
    ]
    assert "dog taken for cat (2), cat taken for dog (1)." in " ".join(page.text.split())


def test_the_configuration_begins_with_what_differs_from_the_defaults(tmp_path: Path, report: Report) -> None:
    page = report(make_run(tmp_path / "a" / "1"))
    rows = {row[0]: row[1:] for row in rows_of(page, "What differs from the defaults")}
    assert rows["model.dropout"] == ["0.125", "0.5"]
    assert rows["model.optimizer"] == ["SGD", "Adam"]
    assert rows["trainer.max_epochs"] == ["3", "10"]
    assert "model.optimizer.momentum" not in rows  # 0.0, as by default
    assert ["model.optimizer.momentum", "0.0", "0"] in rows_of(page, "The whole configuration")


def test_several_runs_are_compared(tmp_path: Path, report: Report) -> None:
    runs = [make_run(tmp_path / "a" / "1"), make_run(tmp_path / "a" / "2", lr=0.2)]
    (runs[1] / "metrics.csv").write_text(METRICS.replace("0.625", "0.875"))
    page = report(*runs)
    scores = rows_of(page, "epoch with the best checkpoint")
    column = scores[0].index("test/acc")
    assert [(row[0], row[column]) for row in scores[1:]] == [("1lr 0.1", "0.625"), ("2lr 0.2", "0.875")]
    assert rows_of(page, "not the same in all runs")[1:] == [["model.optimizer.lr", "0.1", "0.2"]]
    assert page.text.count("Confusion matrix") == 2


def test_the_page_needs_no_other_file_and_no_network(tmp_path: Path, report: Report) -> None:
    page = report(make_run(tmp_path / "a" / "1"), make_run(tmp_path / "a" / "2", lr=0.2))
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "background"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:image/png;base64,")), (tag, address)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    style = source[source.index("<style>") : source.index("</style>")]
    assert not re.search(r"url\(|@import|https?:", style)
    (policy,) = (attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert len(source) < 5e6


@pytest.mark.slow
def test_the_page_of_ten_long_runs_with_large_pictures_stays_below_5_megabytes(tmp_path: Path, report: Report) -> None:
    rows = [f"{i // 100},{1 / (i + 1)},{i},,,,{i / 3},," for i in range(10_000)]
    rows += [f"{i},,{100 * i + 99},,,{i / 3},,{i / 7},{i / 9}" for i in range(300)]
    runs = [make_run(tmp_path / "a" / str(lr), lr=lr) for lr in range(10)]
    for run in runs:
        (run / "metrics.csv").write_text("\n".join([METRICS.splitlines()[0], *rows]))
        (run / "mistakes.png").write_bytes(bytes(400_000))
    page = report(*runs)
    assert (tmp_path / "report.html").stat().st_size < 5e6
    assert page.text.count("too large for this page") == 20 - sum(tag == "img" for tag, _ in page.elements) > 0
    assert page.text.count("later epochs are left out") == 10


def test_the_page_can_be_read_without_seeing_it(tmp_path: Path, report: Report) -> None:
    page = report(make_run(tmp_path / "a" / "1"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
    assert len(page.tables) == sum(tag == "table" for tag, _ in page.elements) == 4
    assert all(page.tables)  # each has a caption
    assert all(attributes.get("scope") for tag, attributes in page.elements if tag == "th")


def test_names_and_notes_are_text_and_never_code(tmp_path: Path, report: Report) -> None:
    hostile = HOSTILE.replace("/", "")  # no folder can have one in its name
    run = make_run(tmp_path / hostile / "1", name=HOSTILE, wandb={"notes": HOSTILE, "tags": [HOSTILE]})
    (run / "confusion.csv").write_text(f'true,"{HOSTILE.replace(chr(34), "")}",b\na,1,2\nb,3,4\n')
    (run / "metrics.csv").write_text(METRICS.replace("val/acc", "val/" + HOSTILE.replace('"', "")))
    for pages in ([run], [run, make_run(tmp_path / "a" / "2", name="x")]):
        page = report(*pages)
        assert HOSTILE in page.text
        tags = [tag for tag, _ in page.elements]
        assert tags.count("script") == 3
        assert not any("onerror" in attributes for _, attributes in page.elements)
        source = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "<script>alert" not in source
        assert "<img src=x" not in source
        assert "49" not in re.findall(r"alert\(2\)[^\d]{0,8}(\d+)", page.text)


def test_a_configuration_with_a_secret_is_refused_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a" / "1", wandb={"notes": "wandb_v1_0123456789abcdef0123456789"})
    assert main([str(run), "--output", str(tmp_path / "r.html")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "wandb.notes contains what looks like a W&B API key" in line
    assert "0123456789" not in line
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("metrics.csv", None, "is no directory of a run: it has no metrics.csv"),
        ("metrics.csv", b"", "ended before it logged anything"),
        ("metrics.csv", b"epoch,step\n\xff\xfe", "has a metrics.csv that is broken"),
        ("metrics.csv", b"epoch,step,val/loss\n0,inf,1\n", "has a metrics.csv that is broken"),
        ("metrics.csv", b"epoch,step,val/loss\n0,nan,1\n", "has a metrics.csv that is broken"),
        ("metrics.csv", b"epoch,step,val/loss\ninf,0,1\n", "has a metrics.csv that is broken (an epoch is no number)"),
        ("config.yaml", None, "is no directory of a run: it has no config.yaml"),
        ("config.yaml", b"a: [", "has a config.yaml that is no YAML"),
        ("config.yaml", b"\xff", "has a config.yaml that is no YAML"),
        ("config.yaml", b"words", "has a config.yaml that is no configuration"),
        ("config.yaml", b"a: &a {b: *a}", "has a config.yaml that is no configuration"),
        ("config.yaml", b"a: [{class_path: 1}]", "has a config.yaml that is no configuration"),
        ("confusion.csv", b"true,a,b\na,1\n", "is no confusion matrix"),
    ],
)
def test_a_broken_run_is_refused_in_one_line(
    file: str, content: bytes | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a" / "1")
    (run / file).unlink()
    if content is not None:
        (run / file).write_bytes(content)
    output = tmp_path / "r.html"
    output.write_text("before")
    assert main([str(run), "--output", str(output)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert reason in line
    assert output.read_text() == "before"


def test_a_run_that_does_not_exist_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), "--output", str(tmp_path / "r.html")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'} is no directory of a run: it has no config.yaml\n"


@pytest.mark.parametrize("output", ["missing/r.html", "a", "a/1/config.yaml/r.html"])
def test_an_output_that_cannot_be_written_is_refused_in_one_line(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a" / "1")
    before = sorted(tmp_path.rglob("*"))
    assert main([str(run), "--output", str(tmp_path / output)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write {tmp_path / output} (")
    assert sorted(tmp_path.rglob("*")) == before


def test_without_its_extra_one_line_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "leyden.runs.report.command.find_spec", lambda name: None if name == "bokeh" else find_spec(name)
    )
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == 'error: leyden report needs bokeh: pip install "leyden[report]"\n'


def test_it_needs_no_torch_and_its_libraries_are_its_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a" / "1")
    code = "import sys; import leyden.__main__ as m; sys.argv[1:] = sys.argv[1:]\n"
    code += "try: m.main()\nexcept SystemExit as end: assert end.code == 0\n"
    code += "print('torch' in sys.modules, 'bokeh' in sys.modules)"
    for words, modules in ((["report", str(run)], "False True"), (["compare", str(run)], "False False")):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=os.environ)
        assert done.stdout.splitlines()[-1] == modules
    assert (tmp_path / "report.html").exists()
