"""Statistics of the scores of several runs; needs no torch."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

MAX_MORE = 1000  # values that are looked at to find how many are needed


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


class Difference(NamedTuple):
    """The mean of one group of values minus that of another.

    Args:
        mean: The difference.
        half_width: Half the width of its 95 % interval.
        pairs: Number of pairs that were compared; 0 if the groups were compared as a whole.
        more: How many more values of each group would bring the interval to one side of zero, if the difference and the
            spread stay as they are: 0 if it is there, None for more than MAX_MORE.
    """

    mean: float
    half_width: float
    pairs: int
    more: int | None


def paired_difference(differences: Sequence[float]) -> Difference:
    """Return the mean of two or more differences of pairs, by Student's t."""
    mean, sd, count = statistics.mean(differences), statistics.stdev(differences), len(differences)
    return Difference(mean, half_width(differences), count, _more(mean, sd, count, 1))


def unpaired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Return the difference of the means of two groups of two or more values each, by Welch's t (1947)."""
    from scipy.special import stdtrit

    mean = statistics.mean(ours) - statistics.mean(theirs)
    parts = [statistics.variance(values) / len(values) for values in (ours, theirs)]
    squares = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (ours, theirs), strict=True))
    freedom = sum(parts) ** 2 / squares if squares else 1.0
    sd = math.sqrt(statistics.variance(ours) + statistics.variance(theirs))
    width = float(stdtrit(freedom, 0.975)) * math.sqrt(sum(parts))
    return Difference(mean, width, 0, 0 if width < abs(mean) else _more(mean, sd, min(len(ours), len(theirs)), 2))


def _more(mean: float, sd: float, count: int, groups: int) -> int | None:
    """Return how many more values are needed until half the width of the interval is below the mean."""
    from scipy.special import stdtrit

    for more in range(MAX_MORE + 1):
        total = count + more
        if float(stdtrit(groups * (total - 1), 0.975)) * sd / math.sqrt(total) < abs(mean):
            return more
    return None
