"""Export every experiment in every format, and write docs/benchmarks_export.md.

    python benchmarks/export.py                       # all experiments, with the weights of one training step
    python benchmarks/export.py --checkpoints runs    # trained ones where DIRECTORY/**/NAME/**/best.ckpt is there
    python benchmarks/export.py NAME...               # some experiments
    python benchmarks/export.py --samples 1000        # check on the first test images only

Figures are those of `leyden export`, from its export.json. Trained networks are exported in 8 bits as well. Transfer
models get no pretrained weights and resize to 64x64 pixels, where their experiments have 224x224.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["WANDB_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"

import yaml
from measure import machine, run

from leyden import PROJECT

PAGE = PROJECT / "docs" / "benchmarks_export.md"
LEYDEN = [sys.executable, "-m", "leyden"]
ONE_STEP = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "1", "--test_after_fit", "false"]
TRANSFER = ["--model.weights", "null", "--model.image_size", "64"]
LINES = {"model.onnx": "ONNX", "model.pt2": "pt2", "model.safetensors": "safetensors", "model.int8.onnx": "ONNX, int8"}

HEAD = """# Benchmarks of exported files

Written by `python benchmarks/export.py` ([source](../benchmarks/export.py)): `leyden export --format all` of each
experiment, read back by onnxruntime, `torch.export.load` and `leyden.load`.

- difference: the largest of an output from the checkpoint's, over batches of 1, 2, 7 and 256 and the test samples. 1e-4
  is allowed.
- score: accuracy in percent, or mean absolute error, on the test samples: of the file, and of the checkpoint. In 8 bits
  0.3 points less are allowed.
- ms: CPU milliseconds for one sample; per second: samples per CPU second in batches of 256. Both are medians on one
  thread, beside those of the network in torch, measured in turns in the same process.

Weights are those of one training step, which suffice for the difference, unless the row says trained. Transfer models
have random weights and resize to 64x64 pixels.

Machine: {machine}; {versions}.

| experiment | weights | file | size in kB | difference | equal | score | torch | ms | torch | per second | torch |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def experiments() -> list[str]:
    """Return the experiments that predict classes or values."""
    files = sorted((PROJECT / "configs").glob("*_*.yaml"))
    classes = {file.stem: yaml.safe_load(file.read_text())["model"]["class_path"] for file in files}
    return [name for name, class_path in classes.items() if class_path != "ImageGPT"]


def checkpoint_of(name: str, folder: Path | None, runs: Path) -> tuple[Path, bool]:
    """Return a checkpoint of an experiment, and whether it is a trained one of the folder."""
    if folder is not None:
        found = [file for file in folder.rglob("best.ckpt") if name in file.parts]
        if found:
            return max(found, key=lambda file: file.stat().st_mtime), True
    command = [*LEYDEN, "fit", "--config", str(PROJECT / "configs" / f"{name}.yaml"), *ONE_STEP, "--name", name]
    command += ["--data.num_workers", "0", f"--trainer.default_root_dir={runs}"]
    command += TRANSFER if name.startswith("transfer") else []
    run(command)
    (file,) = runs.glob(f"{name}/*/checkpoints/last.ckpt")
    return file, False


def export(checkpoint: Path, output: Path, options: list[str]) -> dict[str, Any]:
    """Export a checkpoint in every format, and return the figures; a file that is not kept has its own."""
    command = [*LEYDEN, "export", "--ckpt_path", str(checkpoint), "--format", "all", "--output", str(output), *options]
    done = subprocess.run(command, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    content: dict[str, Any] = json.loads((output / "export.json").read_text())
    return content


def row(name: str, is_trained: bool, read: dict[str, Any]) -> str:
    """Return the row of a file."""
    digits = 2 if read["equal"] is not None else 4
    cells = [name, "trained" if is_trained else "one step", LINES[read["file"]], f"{read['size'] / 1000:,.1f}"]
    cells += [f"{max(read['differences'].values()):.1e}"]
    cells += ["" if read["equal"] is None else f"{100 * read['equal']:.2f} %"]
    cells += [f"{read['score'][side]:.{digits}f}" for side in ("file", "eager")]
    cells += [f"{read['latency_ms'][side]:.3g}" for side in ("file", "eager")]
    cells += [f"{read['throughput'][side]:,.0f}" for side in ("file", "eager")]
    kept = "" if read["fault"] is None else f" (not kept: {read['fault']})"
    return f"| {' | '.join(cells)}{kept} |"


def main() -> None:
    """Export all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; all by default")
    parser.add_argument("--checkpoints", type=Path, metavar="DIRECTORY", help="where trained checkpoints are")
    parser.add_argument("--samples", metavar="N", help="test samples to check on; all by default")
    args = parser.parse_args()
    rows: list[str] = []
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.names or experiments():
            checkpoint, is_trained = checkpoint_of(name, args.checkpoints, Path(scratch))
            options = ["--int8"] if is_trained else []
            options += ["--samples", args.samples] if args.samples else []
            content = export(checkpoint, Path(scratch, "exported", name), options)
            rows += [row(name, is_trained, read) for read in content["files"]]
            versions = content["versions"]
    named = ", ".join(f"{package} {versions[package]}" for package in ("onnx", "onnxruntime"))
    PAGE.write_text(HEAD.format(machine=machine(), versions=named) + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
