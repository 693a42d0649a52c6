from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

import leyden
from leyden.deploy.demo.drawing import to_url
from leyden.deploy.demo.examples import Examples
from leyden.deploy.demo.markup import answer, saw
from leyden.deploy.demo.page import Answers, classifier_page
from leyden.deploy.demo.style import CSS, make_theme
from leyden.deploy.predictor import Predictor

from ..stored import GREY, pixels, save_images, store

IMAGES = pixels(2, (1, 28, 28))
DIGITS = {"class_path": "leyden.data.digits.DigitsDataModule", "init_args": {}}


@pytest.fixture
def predictor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    monkeypatch.chdir(tmp_path)
    store(arguments=GREY, data=DIGITS)
    return leyden.load("model.ckpt")


@pytest.fixture
def answers(predictor: Predictor) -> Answers:
    return Answers(predictor, Examples([*IMAGES], ["3", "8"]))


def event(**data: Any) -> gr.EventData:
    return gr.EventData(None, data)


def test_drawing_file_and_example_are_answered_as_the_predictor_answers_the_file(
    answers: Answers, predictor: Predictor
) -> None:
    name = save_images(IMAGES)[0]
    prediction = predictor.predict(name)
    expected = [answer(prediction.probabilities, prediction.class_name), saw(IMAGES[0])]
    receipt, *drawn = answers.drawing(event(image=to_url(IMAGES[0])))
    painted, *uploaded = answers.upload(Path(name).read_bytes())
    assert drawn == uploaded == expected
    assert receipt[0] is None
    assert painted[0] == to_url(IMAGES[0])
    painted, text, seen = answers.example(event(index=0))
    assert text == answer(prediction.probabilities, prediction.class_name, "true label: 3")
    assert [painted[0], seen] == [to_url(IMAGES[0]), expected[1]]


def test_an_empty_pad_has_no_answer(answers: Answers) -> None:
    assert answers.drawing(event(image=""))[1:] == answers.blank()


def test_every_value_of_the_pad_is_a_new_one(answers: Answers) -> None:
    values = [answers.drawing(event(image=""))[0] for _ in range(3)] + [answers.example(event(index=1))[0]]
    assert len({value[1] for value in values}) == 4


def bomb() -> bytes:
    file = BytesIO()
    Image.new("1", (20_000, 10_000)).save(file, "PNG")  # some kB
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"hello", "not an image"), (bomb(), "more pixels than one image may have")]
)
def test_a_file_that_cannot_be_used_is_one_line_on_the_page(answers: Answers, content: bytes, reason: str) -> None:
    _, text, seen = answers.upload(content)
    assert text.count("This file cannot be used: ") == 1
    assert reason in text
    assert seen == saw(None)


def test_a_drawing_that_cannot_be_used_is_one_line_on_the_page(answers: Answers) -> None:
    assert "This drawing cannot be used: not a drawing" in answers.drawing(event(image="/etc/passwd"))[1]


def test_the_page_names_no_address_outside_of_the_machine(predictor: Predictor) -> None:
    page = classifier_page(predictor, Examples([*IMAGES], ["3", "8"]), "run", "test/acc 0.98")
    theme = make_theme()
    assert "http" not in CSS + str([component["props"] for component in page.config["components"]])
    assert theme._stylesheets == []
