"""`leyden demo --ckpt_path CKPT`: open a local page to try a trained model."""

import argparse
import ipaddress
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from leyden.checkpoints.find import find_checkpoint
from leyden.checkpoints.io import read_checkpoint
from leyden.deploy.demo.examples import Examples, read_examples
from leyden.deploy.extras import require
from leyden.deploy.load import load, load_parts, make_predictor
from leyden.deploy.option_parser import OptionParser
from leyden.errors import UserError
from leyden.runs.directory import BEST, RUNS
from leyden.runs.metrics import read_rows

LOCAL = "127.0.0.1"
MAX_UPLOAD = "20mb"


def demo(args: list[str]) -> None:
    """Serve the page of a checkpoint until Ctrl-C.

    Args:
        args: What follows `leyden demo`.

    Raises:
        UserError: An option, the checkpoint or the port is refused.
    """
    options = read_options(args)
    require("demo", "gradio")
    check_port(options.host, options.port)
    with tempfile.TemporaryDirectory(prefix="leyden-demo-") as folder:
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",  # read when gradio is imported
            "GRADIO_TEMP_DIR": folder,  # uploaded files end with the command
            "LEYDEN_OFFLINE": "1",  # example images are shown only if they are here
            "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), LOCAL, "localhost", options.host])),
        }
        page = make_page(options.ckpt_path)
        from leyden.deploy.demo.style import CSS, make_theme

        user = options.auth and tuple(options.auth.split(":", 1))
        try:
            _, url, _ = page.launch(
                server_name=options.host,
                server_port=options.port,
                auth=user,
                share=False,
                ssr_mode=False,
                enable_monitoring=False,
                run_history=False,
                footer_links=[],
                max_file_size=MAX_UPLOAD,
                theme=make_theme(),
                css=CSS,
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:  # no free port, or taken since it was checked
            raise UserError(f"cannot serve on {options.host}: {error}") from error
        print(f"demo  {url}  (Ctrl-C ends it)", flush=True)
        page.block_thread()


def read_options(args: list[str]) -> argparse.Namespace:
    """Read what follows `leyden demo`; `leyden.cli.help` explains the options.

    Raises:
        UserError: An option is unknown, wrong or missing, or the page would be open to others without a password.
    """
    parser = OptionParser("leyden demo")
    parser.add_argument("--port", type=int)
    parser.add_argument("--host", default=LOCAL)
    parser.add_argument("--auth")
    options = parser.read(args)
    if options.port is not None and not 0 < options.port < 2**16:
        raise UserError(f"--port is {options.port}, but must be 1 to 65535")
    if options.auth is not None and not all(options.auth.partition(":")):
        raise UserError("--auth takes USER:PASSWORD")
    if options.auth is None and not is_loopback(options.host):
        raise UserError(
            f"--host {options.host} opens the page to other machines: add --auth USER:PASSWORD, or leave --host out"
        )
    return options


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_port(host: str, port: int | None) -> None:
    """Refuse an address that is not of this machine, or a port that another process listens on.

    Raises:
        UserError: It is refused.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"--host {host}" if port is None else f"--port {port} on {host}"
        raise UserError(f"{where} cannot be used ({error.strerror}): give another, or leave it out") from error


def make_page(ckpt_path: str) -> Any:
    """Return the page of a checkpoint or an exported model, a `gradio.Blocks`.

    Raises:
        UserError: It cannot be loaded, or is neither a classifier of images nor an ImageGPT.
    """
    path = Path(ckpt_path)
    if path.suffix == ".onnx" or (path / "config.json").is_file():
        predictor, name, score = load(path), path.name, ""
    else:
        file = find_checkpoint(ckpt_path, Path(RUNS), None, "best")
        checkpoint = read_checkpoint(file)
        model, data = load_parts(file, checkpoint)
        name, score = checkpoint["config"].get("name") or file.stem, known_score(file)
        if hasattr(model, "sample"):
            from leyden.deploy.demo.image_page import image_page

            return image_page(model, getattr(data, "class_names", None), name, score)
        predictor = make_predictor(file, checkpoint)
    if predictor.reader is None or not predictor.class_names:
        takes = f"numbers of shape {predictor.input_shape}" if predictor.reader is None else "images and returns values"
        raise UserError(f"leyden demo shows classifiers of images and ImageGPT, and the model of {name} takes {takes}")
    examples = Examples(reason="the file does not name its data")
    if hasattr(predictor, "data"):
        examples = read_examples(predictor.data, predictor.class_names)
    if examples.reason:
        print(f"no test images  {examples.reason}", flush=True)
    from leyden.deploy.demo.page import classifier_page

    return classifier_page(predictor, examples, name, score)


def known_score(file: Path) -> str:
    """Return the test score of a run's best checkpoint, such as `test/acc 0.981`; empty if it is not known."""
    metrics = file.absolute().parent.parent / "metrics.csv"
    if file.name != BEST or not metrics.is_file():
        return ""
    scores = {name: value for row in read_rows(metrics).values() for name, value in row.items()}
    tests = sorted(name for name in scores if name.startswith("test/"))  # test/acc is before test/loss
    return f"{tests[0]} {scores[tests[0]]:.3f}" if tests else ""
