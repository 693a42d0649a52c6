"""Construct the classes that a configuration names."""

from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from leyden.cli.messages import explain
from leyden.cli.parts import named, owners_of
from leyden.cli.run import Run
from leyden.errors import UserError

NO_DATA = "no data: name an experiment, such as --config configs/convnet_digits.yaml, or give --data"


class Constructor:
    """Construct the classes that a configuration names, and record which of them raised what.

    Where an option may be of several types, jsonargparse tries one after the other and reports why the first one
    failed: the error of a logger is in the text of that report, but not among its causes.

    Args:
        run: The run, which fills in its directory; None if there is none.
        has_data: Whether there are data, from which the model takes its sizes.
    """

    def __init__(self, run: Run | None, has_data: bool) -> None:
        self.run, self.has_data = run, has_data
        self.failures: list[tuple[type, Exception]] = []

    def __call__(self, class_type: type, *args: Any, **kwargs: Any) -> Any:
        """Return an instance of a class."""
        try:
            return class_type(*args, **(self.run.fill_in(class_type, kwargs) if self.run else kwargs))
        except Exception as error:
            self.failures.append((class_type, error))
            raise

    def failure(self, report: BaseException) -> UserError:
        """Return in one line why jsonargparse could not construct the classes."""
        failure = self._failure(report)
        return failure if self.has_data else UserError(f"{NO_DATA} (without, the model says: {failure})")

    def _failure(self, report: BaseException) -> UserError:
        causes = [report]
        while (cause := causes[-1].__cause__) is not None:
            causes.append(cause)
        text = " ".join(str(report).split())
        failed: list[tuple[type, BaseException]] = [*self.failures]
        failed.sort(key=lambda failure: failure[1] not in causes)
        failed = [(part, error) for part, error in failed if error in causes or " ".join(str(error).split()) in text]
        for owner in owners_of(causes[-1]):
            if isinstance(owner, (LightningModule, LightningDataModule)):  # which Lightning constructs itself
                failed.append((type(owner), causes[-1]))
        for error in (*causes, *(error for _, error in failed)):
            if isinstance(error, UserError):
                return error
        return UserError(named(*failed[0])) if failed else UserError(explain(report, ()))
