"""Statistics of the scores of several runs; needs no torch."""

import math
import statistics
from collections.abc import Sequence


def half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of the mean of two or more values, by Student's t."""
    from scipy.special import stdtrit  # the quantile; scipy.stats has the same, and takes a second to import

    return float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))


def decimals(error: float, second: bool = True) -> int:
    """Return the number of decimals up to the first significant digit of an error.

    Args:
        error: The error, above 0.
        second: Whether to include the second digit if the first is a 1.
    """
    first = math.floor(math.log10(error))
    return max(0, -first + (second and error < 2 * 10**first))
