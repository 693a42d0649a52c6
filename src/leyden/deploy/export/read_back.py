"""Run a written file in its own runtime, beside the predictor that it was made from."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from leyden.deploy.export.samples import Array, Samples
from leyden.deploy.predictor import Predictor
from leyden.models.tasks import Classifier

Run = Callable[[Array], Array]  # raw inputs (N, ...) -> outputs (N, ...)
BATCH_SIZES = (1, 2, 7, 256)
TOLERANCE = 1e-4  # of probabilities, and of values in units of the largest if that is above 1
INT8_LOSS = 0.3  # percentage points of accuracy
MIN_ROUNDS, MAX_ROUNDS, SECONDS = 3, 50, 1.0  # of a time that is measured


@dataclass(frozen=True)
class Beside:
    """One figure of a file and of eager torch."""

    file: float
    eager: float


@dataclass(frozen=True)
class ReadBack:
    """What a file does in its own runtime.

    Args:
        file: Its name.
        size: Its size in bytes.
        differences: For each size of batch, and for the test split (`test`), the largest difference of an output from
            the predictor's; of values, divided by the largest value of the predictor if that is above 1.
        equal: Share of the test samples with the same most likely class; None for values.
        metric: Name of the score: `test/acc` in percent, or `test/mae`.
        score: On the test samples.
        samples: Their number.
        latency_ms: CPU milliseconds for one sample on one thread, the median.
        throughput: Samples per CPU second in batches of 256 on one thread, the median.
        fault: Why the file is not good; None if it is.
    """

    file: str
    size: int
    differences: dict[str, float]
    equal: float | None
    metric: str
    score: Beside
    samples: int
    latency_ms: Beside
    throughput: Beside
    fault: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)


class Reader:
    """Compare files with the predictor that they were made from.

    Args:
        predictor: The predictor, which computes as in the test.
        network: Its network with the preprocessing inside, as it is written, whose time is measured.
        samples: Its data.
    """

    def __init__(self, predictor: Predictor, network: nn.Module, samples: Samples) -> None:
        self.predictor, self.network, self.samples = predictor, network, samples
        self.is_classifier = isinstance(predictor.model, Classifier)
        batches = [(self._reference(x), y.numpy()) for _, x, y in samples.test(BATCH_SIZES[-1])]
        self.expected = np.concatenate([outputs for outputs, _ in batches])  # (num_test, ...)
        self.targets = np.concatenate([targets for _, targets in batches])

    def read(self, path: Path, size: int, open_file: Callable[[Path, int], Run], is_int8: bool = False) -> ReadBack:
        """Run a file at each size of batch, on the test samples and against the clock.

        Args:
            path: The file.
            size: Its size in bytes.
            open_file: Returns what runs it on a number of threads, 0 for all cores.
            is_int8: Whether the score decides, instead of the difference.
        """
        run = open_file(path, 0)
        differences = {str(n): self._difference_at(run, n) for n in BATCH_SIZES}
        outputs = np.concatenate([run(raw) for raw, _, _ in self.samples.test(BATCH_SIZES[-1])])
        differences["test"] = difference(outputs, self.expected, self.is_classifier)
        score = Beside(self._score(outputs), self._score(self.expected))
        equal = float((outputs.argmax(1) == self.expected.argmax(1)).mean()) if self.is_classifier else None
        del run
        with one_thread():
            latency, throughput = self._times(open_file(path, 1))
        return ReadBack(
            file=path.name,
            size=size,
            differences=differences,
            equal=equal,
            metric="test/acc" if self.is_classifier else "test/mae",
            score=score,
            samples=self.samples.num_test,
            latency_ms=latency,
            throughput=throughput,
            fault=fault(differences, score, is_int8),
        )

    def _reference(self, x: torch.Tensor) -> Array:
        columns = self.predictor.run(x)
        outputs = columns["probabilities"] if self.is_classifier else torch.stack([*columns.values()], dim=1)
        return outputs.numpy()

    def _difference_at(self, run: Run, size: int) -> float:
        ((raw, x, _),) = self.samples.test(size, size)
        return difference(run(raw), self._reference(x), self.is_classifier)

    def _score(self, outputs: Array) -> float:
        if self.is_classifier:
            return float(100 * (outputs.argmax(1) == self.targets).mean())
        return float(np.abs(outputs - self.targets).mean())

    def _times(self, run: Run) -> tuple[Beside, Beside]:
        @torch.inference_mode()
        def eager(raw: Array) -> Array:
            outputs: torch.Tensor = self.network(torch.from_numpy(raw))
            return outputs.numpy()

        largest = BATCH_SIZES[-1]
        ((one, _, _),), ((many, _, _),) = self.samples.test(1, 1), self.samples.test(largest, largest)
        ours, theirs = alternate(lambda: run(one), lambda: eager(one))
        latency = Beside(1000 * ours, 1000 * theirs)
        ours, theirs = alternate(lambda: run(many), lambda: eager(many))
        return latency, Beside(largest / ours, largest / theirs)


def difference(outputs: Array, expected: Array, is_classifier: bool) -> float:
    """Return the largest difference; of values, divided by the largest of them if that is above 1."""
    if outputs.shape != expected.shape or not np.isfinite(outputs).all():
        return float("inf")
    scale = 1.0 if is_classifier else max(1.0, float(np.abs(expected).max()))
    return float(np.abs(outputs - expected).max()) / scale


def fault(differences: dict[str, float], score: Beside, is_int8: bool) -> str | None:
    """Return why a file is not good, None if it is."""
    if is_int8:
        loss = score.eager - score.file
        return f"its score is {loss:.2f} points lower, more than {INT8_LOSS}" if loss > INT8_LOSS else None
    largest = max(differences.values())
    return f"its outputs differ by up to {largest:.1e}, more than {TOLERANCE:.0e}" if largest > TOLERANCE else None


def alternate(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Call two functions in turns, and return the median of the CPU seconds of each."""
    first()  # what is done once
    second()
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < MIN_ROUNDS or (len(times[0]) < MAX_ROUNDS and sum(map(sum, times)) < SECONDS):
        for action, seconds in zip((first, second), times, strict=True):
            start = time.process_time()
            action()
            seconds.append(time.process_time() - start)
    return median(times[0]), median(times[1])


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
