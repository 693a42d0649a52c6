"""The packages that only some commands need."""

from importlib.util import find_spec

from leyden.errors import UserError


def require(extra: str, *modules: str) -> None:
    """Refuse a command whose packages are not installed, before it does anything.

    Args:
        extra: The command, which is also the name of its extra in pyproject.toml.
        modules: The modules that it imports from them.

    Raises:
        UserError: Some are missing.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise UserError(f'leyden {extra} needs {", ".join(missing)}: pip install "leyden[{extra}]"')
