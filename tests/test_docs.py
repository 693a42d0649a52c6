"""What the pages say is there: the tests, files and configurations they name."""

import re
from pathlib import Path

import pytest

from leyden import PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "SECURITY.md", *sorted((PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    for file, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text()):
        assert f"def {name}(" in (PROJECT / file).read_text(), f"{file}::{name}"


def test_every_entry_of_the_notes_names_a_test() -> None:
    entries = [text for text in (PROJECT / "docs" / "notes.md").read_text().split("\n\n") if text.startswith("**")]
    assert len(entries) > 20
    for entry in entries:
        assert re.search(r"\b[Hh]eld by\s+`tests/[\w/]+\.py::\w+`", entry), entry


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = re.sub(r"(?s)## Add a model.*?## Fork it", "", page.read_text())  # there the reader makes the files
    named = re.findall(r"(?<![\w/])((?:configs|src|tests|benchmarks|docs)/[\w./]+\w)", text)
    assert named or page.name != "README.md"
    for path in named:
        assert "NAME" in path or (PROJECT / path).exists(), path


def test_the_tree_of_the_readme_leaves_no_source_folder_out() -> None:
    text = (PROJECT / "README.md").read_text()
    for folder in (PROJECT / "src" / "leyden").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"src/leyden/{folder.name}/" in text
