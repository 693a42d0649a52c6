"""A foreign or hostile ONNX file is refused before any of it runs."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import leyden
from leyden.deploy.onnx_checks import read_onnx
from leyden.errors import UserError

from .export.onnx_files import write_onnx
from .stored import GREY, store

MNIST = {"class_path": "leyden.data.mnist.MNISTDataModule", "init_args": {}}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small file of this project."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("written"))
    try:
        return write_onnx(leyden.load(store(arguments=GREY, data=MNIST)[0]), Path("model.onnx")).read_bytes()
    finally:
        os.chdir(before)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("the file was run")

    monkeypatch.setattr(onnxruntime, "InferenceSession", run)


def metadata(**changes: Any) -> Callable[[onnx.ModelProto], None]:
    """Replaces entries, or removes those that are None."""

    def change(model: onnx.ModelProto) -> None:
        texts = {entry.key: entry.value for entry in model.metadata_props} | changes
        del model.metadata_props[:]
        helper.set_model_props(model, {name: text for name, text in texts.items() if text is not None})

    return change


def described(**changes: Any) -> Callable[[onnx.ModelProto], None]:
    return metadata(input=json.dumps({"shape": ["N", 1, 28, 28], "dtype": "uint8", "colour": "grey"} | changes))


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["secret"], value=tensor))


def custom(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("evil", 1))
    model.graph.node.insert(0, helper.make_node("Run", ["images"], ["ran"], domain="evil"))


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.insert(0, helper.make_node("Loop", ["", ""], ["looped"], body=body))


def function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("evil", "f", [], [], [], [helper.make_opsetid("", 18)]))


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))


def enormous(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**20, 2**20], np.int64), "size"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["zeros"]))


def enormous_when_tiled(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2**20, 1], np.int64), "size"))
    model.graph.node.insert(0, helper.make_node("Tile", ["images", "size"], ["tiles"]))


def enormous_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**20, 2**20]))


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def other_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def no_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def nonsense(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "Nonsense"


def nothing(model: onnx.ModelProto) -> None:
    model.Clear()


HOSTILE = {
    "data in other files": external,
    "data in other files.?": external_constant,
    "custom operator 'evil.Run'": custom,
    "a loop or a branch": loop,
    "functions": function,
    "sparse arrays": sparse,
    "'zeros' of shape .1048576, 1048576. is too large": enormous,
    "'tiles' of shape .64, 1, 29360128, 28. is too large": enormous_when_tiled,
    "[tT]ensor": enormous_weights,
    "batches of one size only": fixed_batch,
    "no ONNX file": other_input,
    "its input is not one array": second_input,
    "no ONNX file.": no_shape,
    "Nonsense": nonsense,
    "no ONNX file of a predictor": nothing,
    "metadata lack class_names": metadata(class_names=None),
    "metadata lack input, class_names, preprocessing": metadata(input=None, class_names=None, preprocessing=None),
    "Expecting value": metadata(input="not JSON"),
    "recursion": metadata(class_names="[" * 10**6),
    "describe no input": metadata(input="[]"),
    "describe no input.?": described(shape=["N", 1, 28, 2**40]),
    "neither numbers nor": described(shape=["N", 1, 28, 14]),
    "neither numbers nor.?": metadata(preprocessing='{"resize": "explode"}'),
    "neither numbers nor square": described(dtype="float64"),
    "different names": metadata(class_names='["a", "a"]'),
    "not of the shape .N, 2.": metadata(class_names='["a", "b"]'),
    "not of the shape .1, 14, 14.": described(shape=["N", 1, 14, 14]),
    "not one array 'inputs'": described(dtype="float32"),
}


@pytest.mark.parametrize("reason", HOSTILE)
def test_a_hostile_or_foreign_file_is_refused_in_one_line(written: bytes, reason: str) -> None:
    model = onnx.load_model_from_string(written)
    HOSTILE[reason](model)
    Path("model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=reason) as refused:
        leyden.load("model.onnx")
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("content", [b"", b"no ONNX", b"PK\3\4" + bytes(100), b"\xff" * 1000])
def test_what_is_no_onnx_file_is_refused(content: bytes) -> None:
    Path("model.onnx").write_bytes(content)
    with pytest.raises(UserError, match="no ONNX file"):
        leyden.load("model.onnx")


def test_a_part_of_a_file_is_refused(written: bytes) -> None:
    for length in range(0, len(written), len(written) // 20):
        Path("model.onnx").write_bytes(written[:length])
        with pytest.raises(UserError, match="no ONNX file"):
            leyden.load("model.onnx")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="there is no file nowhere"):
        leyden.load("nowhere.onnx")


def test_a_file_of_this_project_passes(written: bytes) -> None:
    Path("model.onnx").write_bytes(written)
    file = read_onnx(Path("model.onnx"))
    assert file.content == written
    assert file.input_shape == (1, 28, 28)
    assert file.class_names == [str(i) for i in range(10)]
