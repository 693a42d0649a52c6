"""The page of a classifier: a pad, the probabilities, what the network saw, and example images."""

import itertools
from typing import Any

import gradio as gr

from leyden.data.image_files import BrokenImageError, Pixels
from leyden.deploy.demo.drawing import drawing_pad, from_url, paper_and_ink, pen_width, to_url
from leyden.deploy.demo.examples import Examples
from leyden.deploy.demo.markup import answer, example_buttons, heading, saw
from leyden.deploy.predictor import Prediction, Predictor

TASK = "Draw, drop an image on the pad, or take a test image. The probabilities follow."
PICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) trigger('pick', {index: Number(button.dataset.index)});
});
"""


class Answers:
    """The outputs of the page: the value of the pad, the answer, and what the network saw.

    Args:
        predictor: A classifier of images.
        examples: Images of the test split.
    """

    def __init__(self, predictor: Predictor, examples: Examples) -> None:
        assert predictor.reader is not None
        self.predictor, self.reader, self.examples = predictor, predictor.reader, examples
        self.numbers = itertools.count()

    def blank(self, broken: str = "") -> tuple[str, str]:
        """Return answer and input without an image, or with one that is broken."""
        return answer(dict.fromkeys(self.predictor.class_names, 0.0), broken=broken), saw(None)

    def drawing(self, event: gr.EventData) -> tuple[list[Any], str, str]:
        """Answer a drawing."""
        receipt = [None, next(self.numbers)]
        if not event.image:
            return receipt, *self.blank()
        try:
            return receipt, *self.outputs(self.reader.decode(from_url(event.image)))
        except BrokenImageError as error:
            return receipt, *self.blank(f"This drawing cannot be used: {error}")

    def upload(self, content: bytes) -> tuple[Any, str, str]:
        """Answer an image file, and paint it on the pad."""
        try:
            pixels = self.reader.decode(content)
        except BrokenImageError as error:
            return gr.skip(), *self.blank(f"This file cannot be used: {error}")
        return self.picture(pixels), *self.outputs(pixels)

    def example(self, event: gr.EventData) -> tuple[Any, str, str]:
        """Answer an example, and paint it on the pad."""
        pixels, label = self.examples.images[event.index], self.examples.labels[event.index]
        return self.picture(pixels), *self.outputs(pixels, f"true label: {label}")

    def picture(self, pixels: Pixels) -> list[Any]:
        """Return the value of the pad that paints pixels (C, H, W) on it."""
        return [to_url(pixels), next(self.numbers)]

    def outputs(self, pixels: Pixels, note: str = "") -> tuple[str, str]:
        """Return answer and input for pixels of the reader, (C, H, W)."""
        prediction: Prediction = self.predictor.predict(pixels.transpose(1, 2, 0))  # (C, H, W) -> (H, W, C)
        return answer(prediction.probabilities, prediction.class_name, note), saw(pixels)


def classifier_page(predictor: Predictor, examples: Examples, name: str, score: str) -> gr.Blocks:
    """Return the page of a classifier.

    Args:
        predictor: A classifier of images.
        examples: Images of the test split.
        name: The run's name.
        score: Its score, such as `test/acc 0.981`; may be empty.
    """
    answers = Answers(predictor, examples)
    channels, size = answers.reader.channels, answers.reader.image_size
    facts = [score, f"{len(predictor.class_names)} classes", f"{size}x{size} pixels"]
    paper, ink = paper_and_ink(examples.images, channels)
    first, second = answers.blank()
    page = gr.Blocks(title=f"{name} · leyden demo")
    with page:
        gr.HTML(heading(name, facts, TASK), elem_classes="part heading", apply_default_css=False)
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=4, min_width=300):
                pad = drawing_pad(paper, ink, pen_width(examples.images, paper), colours=channels == 3)
                # the pad has the button that is seen
                upload = gr.UploadButton(file_types=["image"], type="binary", visible="hidden")
            with gr.Column(scale=5, min_width=280):
                answered = gr.HTML(first, elem_classes="part answer", apply_default_css=False)
            with gr.Column(scale=2, min_width=190):
                seen = gr.HTML(second, elem_classes="part saw", apply_default_css=False)
        buttons = example_buttons(examples)
        taken = gr.HTML(buttons, elem_classes="part examples", apply_default_css=False, js_on_load=PICK)
        outputs = [pad, answered, seen]
        # the pad itself sends one drawing at a time: `always_last` may repeat an old one
        pad.draw(answers.drawing, None, outputs, show_progress="hidden", trigger_mode="multiple")
        upload.upload(answers.upload, upload, outputs, show_progress="hidden")
        taken.pick(answers.example, None, outputs, show_progress="hidden")
    return page
