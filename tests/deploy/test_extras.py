"""A command says which packages it lacks."""

import pytest

from leyden.deploy.extras import require
from leyden.errors import UserError


def test_missing_packages_are_named_with_what_installs_them() -> None:
    with pytest.raises(UserError) as refused:
        require("export", "torch", "no_such_package", "nor_this")
    assert str(refused.value) == 'leyden export needs no_such_package, nor_this: pip install "leyden[export]"'


def test_installed_packages_are_not_imported() -> None:
    require("export", "torch", "onnx")
