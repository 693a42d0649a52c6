import re

import numpy as np

from leyden.deploy.demo.examples import Examples
from leyden.deploy.demo.markup import MAX_BARS, answer, bars, example_buttons, heading, pictures, saw

HOSTILE = '<script>alert("x")</script>'
IMAGE = np.zeros((1, 4, 4), np.uint8)


def names(html: str) -> list[str]:
    return re.findall(r'<span class="name[^>]*>([^<]*)<', html)


def test_bars_keep_the_order_of_the_classes() -> None:
    html = bars({"b": 0.25, "a": 0.75}, "a")
    assert names(html) == ["b", "a"]
    assert 'class="fill first" style="width: 75.0%"' in html


def test_of_many_classes_the_most_likely_are_shown() -> None:
    html = bars({f"class {i}": i / 4950 for i in range(100)}, "class 99")
    assert names(html) == [f"class {99 - i}" for i in range(MAX_BARS)]


def test_names_of_runs_classes_and_files_are_shown_as_text() -> None:
    html = heading(HOSTILE, [HOSTILE], HOSTILE) + answer({HOSTILE: 1.0}, HOSTILE, HOSTILE) + answer({}, broken=HOSTILE)
    html += example_buttons(Examples([IMAGE], [HOSTILE])) + example_buttons(Examples(reason=HOSTILE))
    assert "<script" not in html + pictures([IMAGE], HOSTILE)


def test_before_the_first_image_no_probability_is_claimed() -> None:
    assert "%" not in re.sub(r'style="[^"]*"', "", answer({"a": 0.0, "b": 0.0}) + saw(None))


def test_what_the_network_saw_is_named_by_its_size() -> None:
    assert "4x4 pixels, grey" in saw(IMAGE)
    assert "4x4 pixels, RGB" in saw(np.zeros((3, 4, 4), np.uint8))
