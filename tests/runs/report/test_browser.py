"""The page in a real browser, opened from disk: Debian's Chromium, driven by playwright."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leyden.runs.report.command import main

from .conftest import Page, make_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LONG = "a_name_without_any_space_that_is_much_wider_than_a_telephone_and_cannot_be_broken_at_all"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The pages about one run, and about seven."""
    runs = [make_run(tmp_path / "a" / str(lr), lr=lr / 10, name=LONG) for lr in range(1, 8)]
    found = {"one": tmp_path / "one.html", "seven": tmp_path / "seven.html"}
    assert main([str(runs[0]), "--output", str(found["one"])]) == 0
    assert main([*map(str, runs), "--output", str(found["seven"])]) == 0
    return found


def opened(context: Any, file: Path) -> tuple[Any, list[str]]:
    """The page after its plots are drawn, and what it has requested or complained about."""
    page, events = context.new_page(), []
    page.on("request", lambda request: events.append(request.url))
    page.on("pageerror", lambda error: events.append(str(error)))
    page.on("console", lambda line: line.type in ("error", "warning") and events.append(line.text))
    page.goto(file.as_uri())
    page.wait_for_function("window.Bokeh && plots().length && plots().every(view => view.canvas_view.has_finished())")
    return page, events


def middle(page: Any) -> tuple[float, float]:
    """The middle of the first plot."""
    plot = page.locator(".canvas").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_from_disk_without_a_request_or_an_error_and_fits_the_window(
    width: int, scheme: str, chromium: Any, files: dict[str, Path]
) -> None:
    for file in files.values():
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page, events = opened(context, file)
        for details in page.locator("details").all():
            details.evaluate("element => element.open = true")
        assert events == [file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("canvas").count() >= 4
        context.close()


def test_pointing_at_a_curve_shows_its_values(chromium: Any, files: dict[str, Path]) -> None:
    page, _ = opened(chromium.new_context(viewport={"width": 1280, "height": 900}), files["one"])
    page.mouse.move(*middle(page))
    tip = page.locator(".tip")
    tip.wait_for()
    assert tip.inner_text().split() == ["epoch", "1", "■", "val/loss", "1.0988", "■", "train/loss", "1.5"]


def test_a_tap_shows_the_values_until_the_next_tap(chromium: Any, files: dict[str, Path]) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page, _ = opened(context, files["seven"])
    page.touchscreen.tap(*middle(page))
    page.locator(".tip").wait_for()
    assert page.locator(".tip").inner_text().count("1.0988") == 7
    page.touchscreen.tap(5, 5)
    page.locator(".tip").wait_for(state="detached")


def test_the_plots_follow_the_colour_scheme(chromium: Any, files: dict[str, Path]) -> None:
    page, _ = opened(chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark"), files["one"])
    plot = page.locator(".canvas").first
    dark = plot.screenshot()
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(300)
    switched = plot.screenshot()
    light, _ = opened(chromium.new_context(viewport={"width": 1280, "height": 900}), files["one"])
    assert switched != dark
    assert switched == light.locator(".canvas").first.screenshot()


def test_it_prints_with_its_plots_and_all_runs(chromium: Any, files: dict[str, Path]) -> None:
    page, events = opened(chromium.new_context(color_scheme="dark"), files["seven"])
    page.evaluate("addEventListener('afterprint', () => window.printed = true)")
    page.evaluate("addEventListener('beforeprint', () => window.images = document.querySelectorAll('canvas').length)")
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert page.evaluate("[window.images, window.printed]") == [4, True]
    assert page.locator(".canvas > canvas").count() == 0
    assert events == [files["seven"].as_uri()]


def test_text_of_the_user_is_not_run(chromium: Any, tmp_path: Path, report: Callable[..., Page]) -> None:
    attack = "<img src=x onerror=window.run=1></script><script>window.run=1</script>"
    run = make_run(tmp_path / "a" / "1", name=attack, wandb={"notes": attack})
    (run / "metrics.csv").write_text((run / "metrics.csv").read_text().replace("val/acc", "val/" + attack))
    report(run)
    page, events = opened(chromium.new_context(), tmp_path / "report.html")
    box = page.locator(".canvas").nth(1).bounding_box()
    page.locator(".canvas").nth(1).hover()
    page.locator(".tip").wait_for()
    assert box is not None
    assert attack in page.locator(".tip").inner_text()
    assert page.evaluate("window.run") is None
    assert len(events) == 1
