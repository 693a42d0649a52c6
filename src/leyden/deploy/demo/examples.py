"""One test image of each class, for the page of a classifier."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leyden.data.image_files import Pixels
from leyden.errors import RunError, UserError

MAX_EXAMPLES = 20


@dataclass
class Examples:
    """Images of the test split.

    Args:
        images: The pixels, each (C, H, W).
        labels: Their true classes, by name.
        reason: Why there are none, in one line.
    """

    images: list[Pixels] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    reason: str = ""


def read_examples(data: Any, class_names: list[str]) -> Examples:
    """Return the first test image of each class, if the data are on this machine.

    Args:
        data: The DataModule of the training.
        class_names: Names of the classes.
    """
    try:
        data.setup("test")
        test_set = data.test_set
        classes, indices = np.unique(test_set.labels.numpy(), return_index=True)
        x, _ = test_set.__getitems__(indices[:MAX_EXAMPLES].tolist())
    except (UserError, RunError, OSError) as error:
        return Examples(reason=" ".join(str(error).split()))
    scale = 255 / getattr(data, "pixel_max", 255)
    images = (x.numpy() * scale).round().astype(np.uint8)
    return Examples([*images], [class_names[i] for i in classes[:MAX_EXAMPLES].tolist()])
