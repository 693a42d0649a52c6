import os
import socket
from pathlib import Path
from typing import Any

import pytest

from leyden import load
from leyden.deploy import extras
from leyden.deploy.demo import command
from leyden.deploy.demo.command import check_port, demo, known_score, make_page, read_options
from leyden.deploy.demo.examples import Examples
from leyden.deploy.demo.page import Answers
from leyden.errors import UserError

from ..export.onnx_files import export_onnx
from ..stored import CLUSTERS, DIGITS, FUNCTION, GREY, pixels, store

CKPT = ["--ckpt_path", "model.ckpt"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "needs --ckpt_path"),
        ([*CKPT, "--prot", "80"], "leyden demo has no option `--prot`; did you mean `port`"),
        ([*CKPT, "--port", "0"], "must be 1 to 65535"),
        ([*CKPT, "--port", "70000"], "must be 1 to 65535"),
        ([*CKPT, "--port", "web"], "--port"),
        ([*CKPT, "--auth", "me"], "USER:PASSWORD"),
        ([*CKPT, "--auth", "me:"], "USER:PASSWORD"),
        ([*CKPT, "--host", "0.0.0.0"], "add --auth USER:PASSWORD"),
        ([*CKPT, "--host", "192.168.1.7"], "add --auth USER:PASSWORD"),
        ([*CKPT, "--host", ""], "add --auth USER:PASSWORD"),
    ],
)
def test_options_that_are_wrong_or_open_the_page_to_others_are_refused(args: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason.replace(".", r"\.")):
        read_options(args)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_loopback_address_needs_no_password(host: str) -> None:
    assert read_options([*CKPT, "--host", host]).host == host


def test_another_address_is_served_with_a_password() -> None:
    assert read_options([*CKPT, "--host", "0.0.0.0", "--auth", "me:a:b"]).auth == "me:a:b"


def test_a_port_in_use_and_an_address_of_another_machine_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port} on 127.0.0.1 cannot be used"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    with pytest.raises(UserError, match=r"--host 192\.0\.2\.1 cannot be used"):  # an address for documentation
        check_port("192.0.2.1", None)


def test_without_gradio_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'needs gradio: pip install "leyden\[demo\]"'):
        demo(CKPT)


@pytest.mark.parametrize(
    ("class_path", "arguments", "data", "takes"),
    [
        ("leyden.models.linear_regression.LinearRegression", {"input_shape": [1], "out_features": 1}, FUNCTION, "num"),
        ("leyden.models.mlp.MLP", {"input_shape": [2], "num_classes": 3}, CLUSTERS, "numbers of shape"),
    ],
)
def test_a_model_that_takes_no_images_is_refused(
    class_path: str, arguments: dict[str, Any], data: dict[str, Any], takes: str
) -> None:
    store(class_path, arguments, data)
    with pytest.raises(UserError, match=f"classifiers of images and ImageGPT, and the model of stored takes {takes}"):
        make_page("model.ckpt")


def test_there_is_no_such_checkpoint() -> None:
    with pytest.raises(UserError, match=r"no checkpoint at none\.ckpt"):
        make_page("none.ckpt")


def test_without_the_data_the_page_has_no_examples_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEYDEN_OFFLINE", "1")
    store(arguments=GREY, data={"class_path": "leyden.data.mnist.MNISTDataModule", "init_args": {"root": "none"}})
    page = make_page("model.ckpt")
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("no test images  none/MNIST/raw/train-images-idx3-ubyte.gz is missing")
    assert not Path("none").exists()
    assert "No test images" in str(page.config)


def test_the_score_is_that_of_the_test_if_the_checkpoint_is_the_best() -> None:
    Path("run/checkpoints").mkdir(parents=True)
    assert known_score(Path("run/checkpoints/best.ckpt")) == ""
    Path("run/metrics.csv").write_text("epoch,step,test/acc,test/loss,val/acc\n0,9,,,0.9\n1,10,0.98123,0.05,\n")
    assert known_score(Path("run/checkpoints/best.ckpt")) == "test/acc 0.981"
    assert known_score(Path("run/checkpoints/last.ckpt")) == ""


def test_the_page_is_served_without_a_link_to_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Page:
        def launch(self, **options: Any) -> tuple[None, str, str]:
            asked.update(options, analytics=os.environ["GRADIO_ANALYTICS_ENABLED"])
            return None, "http://127.0.0.1:7860/", ""

        def block_thread(self) -> None:
            pass

    monkeypatch.setattr(command, "make_page", lambda path: Page())
    demo([*CKPT, "--auth", "me:a:b"])
    expected = {"analytics": "False", "share": False, "server_name": "127.0.0.1", "auth": ("me", "a:b")}
    assert {name: asked[name] for name in expected} == expected


def test_digits_are_drawn_light_on_dark_and_their_examples_are_shown() -> None:
    store(arguments=GREY, data=DIGITS)
    config = str(make_page("model.ckpt").config)
    assert "'paper': '#000000'" in config
    assert config.count("data-index=") == 10


def test_an_onnx_file_is_shown_in_place_of_its_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    store(arguments=GREY, data=DIGITS)
    export_onnx(load("model.ckpt")).rename("model.onnx")
    config = str(make_page("model.onnx").config)
    assert capsys.readouterr().out.endswith("no test images  the file does not name its data\n")
    assert "<h1>model.onnx</h1>" in config
    assert "'paper': '#000000'" in config
    image = pixels(1, (1, 28, 28))[0]
    first, second = (Answers(load(f"model.{kind}"), Examples()).outputs(image) for kind in ("ckpt", "onnx"))
    assert first == second


def test_a_hostile_onnx_file_is_refused() -> None:
    Path("model.onnx").write_bytes(b"\x08\x07 no model")
    with pytest.raises(UserError, match=r"model\.onnx"):
        make_page("model.onnx")
