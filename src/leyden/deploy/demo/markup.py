"""The HTML of the demo's pages. Names of runs and classes are text from elsewhere, and are escaped."""

from html import escape

from leyden.data.image_files import Pixels
from leyden.deploy.demo.drawing import to_url
from leyden.deploy.demo.examples import Examples

MAX_BARS = 12  # classes; of more, the most likely are shown


def heading(name: str, facts: list[str], task: str) -> str:
    """Return the title, what is known of the model, and what to do."""
    known = " · ".join(escape(fact) for fact in facts if fact)
    return f'<h1>{escape(name)}</h1><p class="facts">{known}</p><p class="task">{escape(task)}</p>'


def answer(probabilities: dict[str, float], first: str = "", note: str = "", broken: str = "") -> str:
    """Return the answer to an image: the most likely class, a note, and a bar for each class.

    Args:
        probabilities: The probability of each class, by name.
        first: The most likely class; empty if there is no image yet.
        note: What to say about it.
        broken: Why the image cannot be used, if it cannot.
    """
    headline, style = escape(broken), "headline broken" if broken else "headline"
    if first:
        headline = f"<strong>{escape(first)}</strong> {probabilities[first]:.1%}<small>{escape(note)}</small>"
    return (
        f'<p class="caption">Answer</p><div class="{style}" role="status">{headline}</div>{bars(probabilities, first)}'
    )


def bars(probabilities: dict[str, float], first: str) -> str:
    """Return a bar for each class, in the order of the classes, or for the most likely ones of many."""
    names = list(probabilities)
    if len(names) > MAX_BARS:
        names = sorted(names, key=lambda name: -probabilities[name])[:MAX_BARS]
    rows = []
    for name in names:
        share, mark = f"{probabilities[name]:.1%}", " first" if name == first else ""
        rows.append(
            f'<span class="name{mark}" title="{escape(name)}">{escape(name)}</span><div class="track">'
            f'<div class="fill{mark}" style="width: {share}"></div></div>'
            f'<span class="value{mark}">{share if first else ""}</span>'
        )
    return f'<div class="bars">{"".join(rows)}</div>'


def saw(pixels: Pixels | None) -> str:
    """Return the input of the network, (C, H, W); None if there is none yet."""
    image, note = "", "The image after scaling."
    if pixels is not None:
        channels, height, width = pixels.shape
        image = f'<img src="{to_url(pixels)}" alt="Input of the network">'
        note = f"{width}x{height} pixels, {'grey' if channels == 1 else 'RGB'}"
    return f'<p class="caption">What the network saw</p><div class="frame">{image}</div><p class="note">{note}</p>'


def example_buttons(examples: Examples) -> str:
    """Return a button for each example, with its true label."""
    if not examples.images:
        return f'<p class="caption">No test images: {escape(examples.reason)}</p>'
    buttons = (
        f'<button type="button" data-index="{i}" title="true label: {escape(label)}"><img src="{to_url(image)}" alt="">'
        f"<span>{escape(label)}</span></button>"
        for i, (image, label) in enumerate(zip(examples.images, examples.labels, strict=True))
    )
    return f'<p class="caption">Test images, with their true label</p><div class="list">{"".join(buttons)}</div>'


def pictures(images: list[Pixels], caption: str) -> str:
    """Return drawn images, each (C, H, W)."""
    items = "".join(f'<img src="{to_url(image)}" alt="a drawn image">' for image in images)
    return f'<p class="caption">{escape(caption)}</p><div class="list">{items}</div>'
