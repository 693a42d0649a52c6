"""What a file says about itself."""

import hashlib
import json
from pathlib import Path

from leyden import __version__
from leyden.deploy.predictor import Predictor
from leyden.models.tasks import Classifier


def describe(predictor: Predictor, checkpoint: Path, license_text: str) -> dict[str, str]:
    """Return the metadata of every file that is made from a classifier or regressor: texts, some of them JSON.

    Args:
        predictor: The model.
        checkpoint: The checkpoint's file.
        license_text: The licence under which the model may be used.

    Returns:
        `class_names`: list; empty for a regressor.
        `input`: `shape`, in which N stands for any number; `dtype`; for images also `colour`, RGB or grey.
        `preprocessing`: for images, `resize`, how the user of a file brings an image of another shape to `input`
            (crop, pad or squash, see `leyden.data.image_files.ImageReader`), and `mean` and `std` of pixels in [0, 1],
            which are inside the file. Otherwise empty.
        And those of `origin`.
    """
    inputs = {"shape": ["N", *predictor.input_shape], "dtype": "float32"}
    preprocessing = {}
    if predictor.reader is not None:
        inputs |= {"dtype": "uint8", "colour": "grey" if predictor.reader.channels == 1 else "RGB"}
        constants = {name: getattr(predictor.data, name).flatten().tolist() for name in ("mean", "std")}
        preprocessing = {"resize": predictor.reader.resize, **constants}
    return {
        "class_names": json.dumps(predictor.class_names, ensure_ascii=False),
        "input": json.dumps(inputs),
        "preprocessing": json.dumps(preprocessing),
        **origin(checkpoint, license_text),
    }


def origin(checkpoint: Path, license_text: str) -> dict[str, str]:
    """Return where a file comes from: `leyden_version`, `checkpoint_sha256` and `license`.

    Args:
        checkpoint: The checkpoint's file.
        license_text: The licence under which the model may be used.
    """
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"leyden_version": __version__, "checkpoint_sha256": digest, "license": license_text}


def input_name(predictor: Predictor) -> str:
    """Return the name of the input in a file."""
    return "inputs" if predictor.reader is None else "images"


def output_name(predictor: Predictor) -> str:
    """Return the name of the output in a file."""
    return "probabilities" if isinstance(predictor.model, Classifier) else "values"
