"""The interval of a mean, against scipy's own."""

import numpy as np
import pytest
from scipy import stats

from leyden.runs.statistics import decimals, half_width


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_the_interval_is_that_of_students_t(count: int) -> None:
    values = np.random.default_rng(count).normal(0.9, 0.01, count).tolist()
    low, high = stats.t.interval(0.95, count - 1, loc=np.mean(values), scale=stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2, rel=1e-9)
    assert (low, high) == pytest.approx(tuple(stats.ttest_1samp(values, 0).confidence_interval()))


def test_the_interval_covers_the_true_mean_in_95_percent_of_draws() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 5))
    covered = sum(abs(draw.mean()) <= half_width(draw.tolist()) for draw in draws) / 2000
    assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors


@pytest.mark.parametrize(
    ("error", "digits"), [(0.0123, 3), (0.0234, 2), (0.1, 2), (0.25, 1), (1.4, 1), (3.0, 0), (250.0, 0)]
)
def test_decimals_go_to_the_first_digit_of_the_error_or_the_second_after_a_one(error: float, digits: int) -> None:
    assert decimals(error) == digits
