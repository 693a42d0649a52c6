"""The page of a model that draws images: a button for each class."""

from functools import partial
from typing import Any

import gradio as gr
import torch

from leyden.deploy.demo.markup import heading, pictures

COUNT = 12  # images a click
TASK = "Choose a class: the network draws images of it, pixel by pixel."


def draw_images(model: Any, index: int, name: str, seed: float | None) -> tuple[str, int]:
    """Draw images of a class.

    Args:
        model: An ImageGPT.
        index: The class.
        name: Its name.
        seed: Seed of the images.

    Returns:
        The images as HTML, and the seed of the next click.
    """
    seed = int(seed or 0) % 2**32
    model.hparams["sample_seed"] = seed
    images = model.sample(torch.full((COUNT,), index))  # (COUNT, C, H, W) in [0, 1]
    pixels = (images * 255).round().to(torch.uint8).cpu().numpy()
    return pictures([*pixels], f"Class {name}, seed {seed}"), seed + 1


def image_page(model: Any, class_names: list[str] | None, name: str, score: str) -> gr.Blocks:
    """Return the page of a model that draws images of a class.

    Args:
        model: An ImageGPT.
        class_names: Names of the classes; None for their numbers.
        name: The run's name.
        score: Its score, such as `test/bpd 1.81`; may be empty.
    """
    names = class_names or [str(i) for i in range(model.num_classes)]
    _, height, width = model.image_shape
    facts = [score, f"{width}x{height} pixels", f"{model.levels} levels"]
    page = gr.Blocks(title=f"{name} · leyden demo")
    with page:
        gr.HTML(heading(name, facts, TASK), elem_classes="part heading", apply_default_css=False)
        with gr.Row(elem_classes="classes"):
            buttons = [gr.Button(label) for label in names]
        empty = '<p class="caption">The images appear here.</p>'
        drawn = gr.HTML(empty, elem_classes="part drawn", apply_default_css=False)
        start = model.hparams["sample_seed"]
        seed = gr.Number(start, label="Seed of the next images", precision=0, minimum=0, elem_classes="seed")
        for index, (button, label) in enumerate(zip(buttons, names, strict=True)):
            draw = partial(draw_images, model, index, label)
            # one at a time, as the seed is an attribute of the model
            button.click(draw, seed, [drawn, seed], concurrency_id="draw", show_progress_on=drawn)
    return page
