"""The packages of an extra, which only the command that needs them imports."""

from importlib.util import find_spec

from leyden.errors import UserError


def require(extra: str, *modules: str) -> None:
    """Refuse to go on without the packages of an extra.

    Args:
        extra: The name of the extra, which is that of the command.
        modules: The top-level modules that must be installed.

    Raises:
        UserError: One is missing.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UserError(f'leyden {extra} needs {", ".join(missing)}: pip install "leyden[{extra}]"')
