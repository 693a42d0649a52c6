"""`leyden predict --ckpt_path CKPT --images PATH...`: the predictions of a checkpoint for image files."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from rich.progress import Progress

from leyden.callbacks.progress_bar import draws_bars
from leyden.checkpoints.find import find_checkpoint
from leyden.checkpoints.io import read_checkpoint
from leyden.deploy.decoding import ImageFiles
from leyden.deploy.image_options import image_names, read_options
from leyden.deploy.load import make_predictor
from leyden.deploy.predictions_file import PredictionsFile
from leyden.deploy.predictor import Predictor
from leyden.errors import RunError, UserError
from leyden.runs.directory import check_name, make_run_directory, short_path

MAX_COUNTS = 10  # classes in the last line


def predict_images(args: list[str]) -> None:
    """Write the predictions of a checkpoint for image files to a CSV file.

    Args:
        args: What follows `leyden predict`.

    Raises:
        UserError: An option, a path or the checkpoint is refused, before anything is written.
        RunError: Some images are broken, and `--skip_broken` is not given; the others have their rows.
    """
    options = read_options(args)
    root = Path(options.default_root_dir)
    images = image_names(options.images)
    checkpoint_path = find_checkpoint(options.ckpt_path, root, options.name, "best")
    checkpoint = read_checkpoint(checkpoint_path)
    predictor = make_predictor(checkpoint_path, checkpoint, choose_device(options.accelerator))
    if predictor.reader is None:
        raise UserError(f"--images: {type(predictor.model).__name__} takes {predictor.input_shape} numbers, no images")
    if (options.top_k or 0) > max(1, len(predictor.class_names)):
        raise UserError(f"--top_k is {options.top_k}, but there are {len(predictor.class_names)} classes")
    print(f"from  {short_path(checkpoint_path)}, step {checkpoint.get('global_step')}", flush=True)
    if options.output is None:
        name = options.name or checkpoint["config"]["name"]
        check_name(name)
        path = make_run_directory(root.absolute() / name, "_predict") / "predictions.csv"
    else:
        path = Path(options.output)

    files = ImageFiles(images.names, replace(predictor.reader, invert=options.invert), images.broken)
    with PredictionsFile(path, predictor, options.top_k, options.all) as table:
        write_predictions(files, predictor, table, options.batch_size or predictor.batch_size)
    total = len(images.names) + len(images.broken)
    print(f"predict  {total:,} images, {files.num_broken:,} broken{_in_words(table.counts)}")
    print(f"file  {short_path(path)}", flush=True)
    if files.num_broken and not options.skip_broken:
        raise RunError(f"{files.num_broken:,} of {total:,} images are broken, as listed; --skip_broken accepts that")


def write_predictions(files: ImageFiles, predictor: Predictor, table: PredictionsFile, batch_size: int) -> None:
    """Predict batch by batch, with a progress bar on a terminal."""
    images = iter(files)
    with Progress(disable=not draws_bars(), transient=True) as progress:
        bar = progress.add_task("predict", total=len(files.names))
        while batch := list(islice(images, batch_size)):
            names, pixels = zip(*batch, strict=True)
            table.write(list(names), predictor.run(predictor.normalize(list(pixels))))
            progress.advance(bar, len(batch))


def choose_device(accelerator: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `gpu` means.

    Raises:
        UserError: There is no GPU.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if accelerator == "gpu" and found is None:
        raise UserError("--accelerator gpu: torch finds no GPU here; leave it out to use what is available")
    return torch.device("cpu") if found is None or accelerator == "cpu" else found


def _in_words(counts: Counter[str]) -> str:
    """Return how often each class was predicted, as the end of a line."""
    named = [f"{name} {count:,}" for name, count in counts.most_common(MAX_COUNTS)]
    return f"; {', '.join(named)}{', ...' if len(counts) > MAX_COUNTS else ''}" if named else ""
