"""The drawing pad: a canvas whose pen is always in the hand, and the pictures that go to and fro.

Gradio's own editor selects no tool at first, and has layers, zoom and history, of which a digit needs none.
"""

import base64
import binascii
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from leyden.data.image_files import BrokenImageError, Pixels

SIDE = 320  # pixels of the canvas
STROKES = 1.8  # length of the lines of a digit, in sides of its image
MAX_DRAWING = 2**22  # characters of a drawing that the page sends; a canvas full of noise needs half of it
PNG = "data:image/png;base64,"

PAD_HTML = f"""
<div class="pad">
  <div class="sheet"><canvas width="{SIDE}" height="{SIDE}" aria-label="Drawing pad"></canvas>
  <div class="hint" style="color: ${{ink}}">Draw here</div></div>
  <div class="tools">
    <button type="button" class="clear">Clear</button>
    <button type="button" class="choose">Choose a file</button>
    <span>Pen</span><input type="range" class="width" min="6" max="80" value="${{width}}" title="Width of the pen">
    <input type="color" class="ink" value="${{ink}}" title="Colour of the pen" style="display: ${{palette}}">
  </div>
</div>
"""

PAD_CSS = """
.pad {width: 100%; max-width: 380px;}
.sheet {position: relative; border-radius: 10px; overflow: hidden; border: 1px solid var(--border-color-primary);}
.sheet.over {outline: 3px solid var(--color-accent);}
canvas {display: block; width: 100%; aspect-ratio: 1; touch-action: none; cursor: crosshair;}
.hint {position: absolute; inset: 0; display: grid; place-items: center; pointer-events: none; opacity: .5;}
.tools {display: flex; gap: .5rem; align-items: center; margin-top: .7rem; font-size: .9rem;}
.tools span {color: var(--body-text-color-subdued); margin-left: .4rem;}
.tools input[type=range] {flex: 1; min-width: 3rem; width: 3rem; margin: 0; accent-color: var(--color-accent);}
.tools input[type=color] {width: 2.2rem; height: 2rem; padding: 0; border: 0; background: none;}
.tools button {padding: .35rem .8rem; border-radius: 7px; border: 1px solid var(--border-color-primary);
  cursor: pointer; background: var(--background-fill-primary); color: var(--body-text-color); font-size: .9rem;
  font-weight: 500; white-space: nowrap;}
.tools button:hover {border-color: var(--color-accent);}
"""

PAD_JS = """
const find = (name) => element.querySelector(name);
const canvas = find('canvas'), pen = canvas.getContext('2d');
let last = null, empty = true, busy = false, changed = false, patience = null;
const blank = (yes) => {
  empty = yes; find('.hint').style.visibility = yes ? 'visible' : 'hidden';
  if (yes) { pen.fillStyle = props.paper; pen.fillRect(0, 0, canvas.width, canvas.height); }
};
// one drawing is on its way at a time, and the last one is always sent
const send = () => {
  changed = busy;
  if (busy) return;
  busy = true;
  patience = setTimeout(answered, 10000);
  trigger('draw', {image: empty ? '' : canvas.toDataURL('image/png')});
};
const answered = () => { clearTimeout(patience); busy = false; if (changed) send(); };
const place = (event) => {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
};
const stroke = (event) => {
  const point = place(event);
  pen.lineCap = pen.lineJoin = 'round';
  pen.lineWidth = find('.width').value;
  pen.strokeStyle = find('.ink').value;
  pen.beginPath(); pen.moveTo(...last); pen.lineTo(...point); pen.stroke();
  last = point;
  blank(false); send();
};
canvas.addEventListener('pointerdown', (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId); last = place(event); stroke(event);
});
canvas.addEventListener('pointermove', (event) => { if (last) stroke(event); });
for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => { last = null; });
find('.clear').addEventListener('click', () => { blank(true); send(); });
const input = () => document.querySelector('input[type=file]');  // the only one of the page
find('.choose').addEventListener('click', () => input().click());
// a dropped file goes the way of a chosen one
const sheet = find('.sheet');
for (const [name, over] of [['dragover', true], ['dragleave', false], ['drop', false]])
  sheet.addEventListener(name, (event) => { event.preventDefault(); sheet.classList.toggle('over', over); });
sheet.addEventListener('drop', (event) => {
  if (!event.dataTransfer.files.length) return;
  input().files = event.dataTransfer.files;
  input().dispatchEvent(new Event('change', {bubbles: true}));
});
watch('value', () => {
  if (!props.value?.[0]) return answered();
  const picture = new Image();
  picture.onload = () => {
    pen.imageSmoothingEnabled = false;
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height); blank(false);
  };
  picture.src = props.value[0];
});
blank(true);
"""


def drawing_pad(paper: str, ink: str, width: int, colours: bool) -> Any:
    """Return the pad, a `gradio.HTML` whose event `draw` brings `image`, a data URL, empty after Clear.

    Its value is [data URL, number]: a picture to paint on it, or null, the receipt for a drawing. The number is a new
    one each time, as only a change is noticed.

    Args:
        paper: Colour of the canvas, #rrggbb.
        ink: Colour of the pen, #rrggbb.
        width: Width of the pen in pixels of the canvas.
        colours: Whether the colour of the pen can be chosen.
    """
    import gradio as gr

    return gr.HTML(
        elem_id="pad",
        elem_classes="part",
        apply_default_css=False,
        html_template=PAD_HTML,
        css_template=PAD_CSS,
        js_on_load=PAD_JS,
        paper=paper,
        ink=ink,
        width=width,
        palette="block" if colours else "none",
    )


def paper_and_ink(images: list[Pixels], channels: int) -> tuple[str, str]:
    """Return the colours of canvas and pen: for grey images those of the data, by the border of some images.

    Args:
        images: Some of the data, each (C, H, W); light on dark is assumed without any.
        channels: 1 for grey, 3 for RGB, which are drawn dark on white.
    """
    borders = [np.concatenate([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], axis=1).mean() for x in images]
    light = channels == 3 or (len(borders) > 0 and float(np.median(borders)) > 127)
    return ("#ffffff", "#000000") if light else ("#000000", "#ffffff")


def pen_width(images: list[Pixels], paper: str) -> int:
    """Return the width of the pen whose drawings have as much ink as grey images of digits have, in canvas pixels.

    Args:
        images: Some of the data, each (C, H, W).
        paper: Colour of the canvas.
    """
    if not images or len(images[0]) != 1:
        return SIDE // 12
    mean = float(np.mean([image.mean() for image in images]))
    ink = abs(mean - int(paper[1:3], 16)) / 255  # share of the image
    return round(SIDE * min(max(ink / STROKES, 0.05), 0.2))


def to_url(pixels: Pixels) -> str:
    """Return pixels (C, H, W) as the data URL of a PNG."""
    array = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    file = BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return PNG + base64.b64encode(file.getvalue()).decode()


def from_url(url: Any) -> bytes:
    """Return the PNG file in a data URL.

    Raises:
        BrokenImageError: It is none, or too long.
    """
    if not isinstance(url, str) or not url.startswith(PNG) or len(url) > MAX_DRAWING:
        raise BrokenImageError("not a drawing")
    try:
        return base64.b64decode(url.removeprefix(PNG), validate=True)
    except binascii.Error as error:
        raise BrokenImageError("not a drawing") from error
