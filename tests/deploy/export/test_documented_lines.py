"""An ONNX file is enough: what docs/deployment.md shows works without this project."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import leyden as package
from leyden import PROJECT
from leyden.cli.main import main

from ..stored import CIFAR10, COLOURED, DIGITS, GREY, pixels, save_images, store

PAGE = (PROJECT / "docs" / "deployment.md").read_text()
ALONE = """
import runpy, sys
sys.modules |= {"leyden": None, "torch": None}  # an import of them fails
try:
    import leyden
except ImportError:
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def documented(name: str) -> str:
    """Write a file of the page, and return its path."""
    (lines,) = re.findall(rf"`{name}`[^`]+(?:`[^`]+`[^`]+)*?\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    Path(name).write_text(lines)
    return name


def alone(*args: str) -> list[str]:
    return [sys.executable, "-c", ALONE, *args]


@pytest.mark.parametrize(
    ("arguments", "data"), [(GREY, DIGITS), (COLOURED, CIFAR10 | {"init_args": {"val_size": 100}})]
)
@pytest.mark.usefixtures("cifar10_root")
def test_the_documented_lines_predict_the_same_where_leyden_is_not_importable(
    arguments: dict[str, object], data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEYDEN_DATA", str(tmp_path))
    store(arguments=arguments, data=data)
    assert main(["export", "--ckpt_path", "model.ckpt", "--output", "out", "--samples", "10"]) == 0
    (image,) = save_images(pixels(1, (3, 40, 50)))  # a colour image of another shape
    script = documented("classify_onnx.py")
    assert len([line for line in Path(script).read_text().splitlines() if line]) <= 15
    done = subprocess.run(alone(script, "out/model.onnx", image), capture_output=True, text=True, check=True)
    rows = [line.partition(" ")[::2] for line in done.stdout.splitlines()]
    expected = package.load("model.ckpt").predict(image).probabilities
    assert [name for _, name in rows] == [*expected]
    assert [float(p) for p, _ in rows] == pytest.approx([*expected.values()], abs=6e-5)  # four digits are printed


@pytest.mark.slow
def test_the_documented_service_answers_over_loopback() -> None:
    store(arguments=GREY, data=DIGITS)
    assert main(["export", "--ckpt_path", "model.ckpt", "--output", "out", "--samples", "10"]) == 0
    (image,) = save_images(pixels(1, (3, 40, 50)))
    script = documented("serve.py")
    assert len([line for line in Path(script).read_text().splitlines() if line]) <= 25
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def post(body: bytes) -> dict[str, object]:
        url, headers = f"http://127.0.0.1:{port}/predict", {"Content-Type": "image/png"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as response:
            answer: dict[str, object] = json.load(response)
        return answer

    service = subprocess.Popen(alone(script, "out/model.onnx", str(port)), stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                answer = post(Path(image).read_bytes())
                break
            except urllib.error.URLError:  # not yet there
                time.sleep(0.1)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(b"no image")
    finally:
        service.terminate()
        service.wait()
    prediction = package.load("model.ckpt").predict(image)
    assert answer["class"] == prediction.class_name
    assert answer["probability"] == pytest.approx(prediction.probability, abs=1e-6)
