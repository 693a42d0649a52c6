"""What counts as a difference, and what is too much of it."""

import time

import numpy as np
import pytest
import torch

from leyden.deploy.export.read_back import Beside, alternate, difference, fault, one_thread

ONES = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("outputs", "expected", "is_classifier", "largest"),
    [
        (ONES, ONES, True, 0),
        (ONES - 0.25, ONES, True, 0.25),
        (100 * ONES, 101 * ONES, False, 1 / 101),  # in units of the largest value
        (ONES / 8, ONES / 4, False, 1 / 8),
        (ONES[:1], ONES, True, float("inf")),  # another shape
        (ONES * np.nan, ONES, True, float("inf")),
    ],
)
def test_the_largest_difference(outputs: np.ndarray, expected: np.ndarray, is_classifier: bool, largest: float) -> None:
    assert difference(outputs, expected, is_classifier) == pytest.approx(largest)


def test_a_difference_at_any_size_of_batch_is_a_fault() -> None:
    score = Beside(90, 90)
    assert fault({"1": 0.0, "7": 1e-4}, score, is_int8=False) is None
    assert fault({"1": 0.0, "7": 2e-4}, score, is_int8=False) == "its outputs differ by up to 2.0e-04, more than 1e-04"
    assert fault({"1": float("inf")}, score, is_int8=False) is not None


def test_in_8_bits_the_score_decides() -> None:
    assert fault({"1": 0.5}, Beside(89.8, 90), is_int8=True) is None
    assert fault({"1": 0.5}, Beside(91, 90), is_int8=True) is None
    assert fault({"1": 0.0}, Beside(89.6, 90), is_int8=True) == "its score is 0.40 points lower, more than 0.3"


def test_times_are_medians_of_turns_in_cpu_seconds() -> None:
    turns: list[str] = []

    def busy() -> None:
        turns.append("busy")
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    def idle() -> None:
        turns.append("idle")
        time.sleep(0.01)

    first, second = alternate(busy, idle)
    assert second < 0.009 < first
    assert turns == ["busy", "idle"] * (len(turns) // 2)


def test_torch_has_its_threads_back_afterwards() -> None:
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
