"""The pages in a real browser: a stroke, a file, a button, and every request."""

import base64
import math
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from leyden import PROJECT, load

from ...processes import Process, Server
from ..stored import CLUSTERS, FUNCTION, store

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
GPT = {"input_shape": [1, 8, 8], "num_classes": 10, "embed_dim": 8, "num_layers": 1, "num_heads": 1}
SMALL = {"class_path": "leyden.data.digits.DigitsDataModule", "init_args": {"size": 8, "mean": 0.0, "std": 1.0}}
PATIENCE = 60_000  # milliseconds
ONE = [(0.5, 0.15 + 0.07 * i) for i in range(11)]
ZERO = [(0.5 + 0.22 * math.cos(i * math.pi / 10), 0.5 + 0.33 * math.sin(i * math.pi / 10)) for i in range(21)]
WIDTHS = [1280, 390]
DROP = """async (content) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0)), dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], 'one.png', {type: 'image/png'}));
  document.querySelector('#pad canvas').dispatchEvent(new DragEvent('drop', {dataTransfer, bubbles: true}));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if program is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Proxy:
    """An address that all requests of the command to other machines would come to; it records that one came."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.env = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), url)

    def was_used(self) -> bool:
        try:
            self.listener.accept()
        except BlockingIOError:
            return False
        return True


class Demo:
    """A page that is open in the browser.

    Args:
        page: The page.
        address: Its address.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.requests, self.errors = page, [], []
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(address)

    def draw(self, points: list[tuple[float, float]]) -> None:
        """One stroke through points, as shares of the pad's side."""
        pad = self.page.locator("#pad canvas")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places:
            self.page.mouse.move(*place)
        self.page.mouse.up()

    def wait(self, selector: str, text: str) -> None:
        """Waits for text in an element."""
        self.page.locator(selector, has_text=text).first.wait_for()

    def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.fixture(scope="module")
def checkpoint(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows digits, after some seconds of training."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        code, said = server.run("fit", "--config", DIGITS, "--trainer.max_epochs", "10", "--trainer.accelerator", "cpu")
    assert code == 0, said
    return next(folder.glob("runs/*/*/checkpoints/best.ckpt"))


@pytest.fixture
def serve_demo(leyden: Server, browser: Any) -> Iterator[Callable[..., Demo]]:
    """Starts `leyden demo` and opens its page; in the end there were no errors, and no request to another machine."""
    proxy = Proxy()
    processes: list[Process] = []
    demos: list[Demo] = []

    def start(checkpoint: Path, width: int, *options: str, **context: Any) -> Demo:
        process = leyden.start("demo", "--ckpt_path", str(checkpoint), *options, env=proxy.env)
        processes.append(process)
        address = wait_for_address(process)
        page = browser.new_context(viewport={"width": width, "height": 900}, **context).new_page()
        demos.append(Demo(page, address))
        return demos[-1]

    yield start
    for process in processes:
        process.kill(signal.SIGINT)
        assert process.wait() == 0, process.text()
    for demo in demos:
        demo.page.context.close()
        assert demo.errors == []
        hosts = {url.split("/")[2] for url in demo.requests if not url.startswith(("data:", "blob:"))}
        assert {host.partition(":")[0] for host in hosts} == {"127.0.0.1"}
    assert not proxy.was_used()


def wait_for_address(process: Process) -> str:
    """The address that the command prints."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not process.output.exists() or "Ctrl-C" not in process.text():
        assert time.monotonic() < deadline, process.text()
        time.sleep(0.1)
    return next(word for word in process.text().split() if word.startswith("http://"))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_drawn_one_and_a_drawn_zero_come_out_first(
    checkpoint: Path, width: int, serve_demo: Callable[..., Demo]
) -> None:
    demo = serve_demo(checkpoint, width)
    demo.page.locator("#pad canvas").wait_for()
    demo.draw(ONE)
    demo.wait(".headline strong", "1")
    demo.page.click("text=Clear")
    demo.page.locator(".headline:not(:has(strong))").wait_for()
    demo.draw(ZERO)
    demo.wait(".headline strong", "0")
    assert demo.page.locator(".bars .name").all_inner_texts() == [str(i) for i in range(10)]
    assert demo.page.locator(".saw img").count() == 1
    assert demo.fits()


def test_files_and_examples_are_answered_and_a_bad_file_is_one_line(
    checkpoint: Path, serve_demo: Callable[..., Demo]
) -> None:
    demo = serve_demo(checkpoint, 1280)
    demo.page.locator(".examples button").nth(4).click()
    demo.wait(".headline small", "true label: 4")

    picture = Image.new("L", (90, 60))
    picture.paste(255, (40, 8, 50, 52))
    picture.save("one.png")
    demo.page.set_input_files("input[type=file]", "one.png")
    prediction = load(checkpoint).predict("one.png")
    demo.wait(".headline", f"{prediction.class_name} {prediction.probability:.1%}")

    demo.page.click("text=Clear")
    demo.page.evaluate(DROP, base64.b64encode(Path("one.png").read_bytes()).decode())
    demo.wait(".headline", f"{prediction.class_name} {prediction.probability:.1%}")

    Image.new("1", (20_000, 10_000)).save("bomb.png")
    demo.page.set_input_files("input[type=file]", "bomb.png")
    demo.wait(".headline.broken", "This file cannot be used: more pixels than one image may have")

    Path("large.png").write_bytes(bytes(21 * 2**20))
    demo.page.set_input_files("input[type=file]", "large.png")
    demo.wait(".toast-body", "exceed the maximum allowed size")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_button_of_image_gpt_draws_images(width: int, serve_demo: Callable[..., Demo]) -> None:
    demo = serve_demo(store("leyden.models.image_gpt.ImageGPT", GPT, SMALL)[0], width)
    demo.page.locator(".classes button", has_text="7").click()
    demo.wait(".drawn", "Class 7, seed 0")
    demo.page.locator(".classes button", has_text="7").click()
    demo.wait(".drawn", "Class 7, seed 1")
    assert demo.page.locator(".drawn img").count() == 12
    assert demo.fits()


def test_a_page_with_a_password_shows_nothing_without_it(checkpoint: Path, serve_demo: Callable[..., Demo]) -> None:
    demo = serve_demo(checkpoint, 1280, "--auth", "me:my word")
    for word, seen in [("another", "text=Incorrect"), ("my word", "#pad canvas")]:
        assert demo.page.locator("canvas").count() == 0
        demo.page.locator("input[type=password]").fill(word)
        demo.page.locator("input").first.fill("me")
        demo.page.keyboard.press("Enter")
        demo.page.locator(seen).wait_for()


@pytest.mark.parametrize(
    ("class_path", "arguments", "data"),
    [
        ("leyden.models.linear_regression.LinearRegression", {"input_shape": [1], "out_features": 1}, FUNCTION),
        ("leyden.models.mlp.MLP", {"input_shape": [2], "num_classes": 3}, CLUSTERS),
    ],
)
def test_what_cannot_be_shown_ends_in_one_line_and_code_2(
    class_path: str, arguments: dict[str, Any], data: dict[str, Any], leyden: Server
) -> None:
    store(class_path, arguments, data)
    code, said = leyden.run("demo", "--ckpt_path", "model.ckpt")
    assert code == 2
    assert said.splitlines()[-1].startswith("error: leyden demo shows classifiers of images and ImageGPT")
