"""The parser: strict YAML, functions that return a network, schedules whose length may be omitted."""

from typing import Any

import jsonargparse
import yaml
from lightning.pytorch.cli import LightningArgumentParser
from torch.optim.lr_scheduler import LRScheduler

from leyden.models.lr_schedules import LENGTHS
from leyden.security import check_yaml, restrict_imports

STRICT_YAML = "strict_yaml"  # the parser mode that `secure_parsing` adds
load_yaml = jsonargparse.get_loader("yaml")


def secure_parsing() -> None:
    """Restrict what a configuration may import, and add a parser mode for YAML without duplicate keys and secrets.

    Both hold for the whole process.
    """
    restrict_imports()
    jsonargparse.set_loader(STRICT_YAML, _load_strictly, exceptions=(yaml.YAMLError,))


def _load_strictly(text: str) -> Any:
    check_yaml(text, "a configuration")
    return load_yaml(text)


class Parser(LightningArgumentParser):
    """The parser of each subcommand."""

    def add_class_arguments(
        self, class_type: type, *args: Any, skip: set[str | int] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add the arguments of a class; the length of a schedule may be null (the whole run) or a fraction of the run.

        Returns:
            The names of the arguments.
        """
        length = LENGTHS.get(class_type.__name__) if issubclass(class_type, LRScheduler) else None
        skip = {*(skip or ()), *([length] if length else [])}
        added: list[str] = super().add_class_arguments(class_type, *args, skip=skip, **kwargs)
        if length is None:
            return added
        if length == "milestones":
            self.add_argument(f"--{length}", type=list[int | float], required=True, help="0.5 is half of the run.")
        else:
            self.add_argument(f"--{length}", type=int | float | None, help="Null: the run's; 0.5: half of the run.")
        return [*added, length]

    def add_function_arguments(self, *args: Any, linked_targets: Any = None, **kwargs: Any) -> list[str]:
        """Add the arguments of a function; `linked_targets`, which jsonargparse 4.53 passes, is not an option of it."""
        return super().add_function_arguments(*args, **kwargs)
