"""Read an ONNX file, and refuse one that `leyden export` has not written, before any of it runs."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import onnx

from leyden.data.image_files import ImageReader, Resize
from leyden.errors import UserError

BATCH_SIZE = 64  # inputs that are computed at once
MAX_BYTES = 2**31  # of a file; the format's own limit
MAX_VALUES = 2**30  # of one array at this batch size: 4 GB of float32
UINT8, FLOAT = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT


@dataclass
class OnnxFile:
    """A file that has passed the checks.

    Args:
        content: Its bytes: what is run is what was checked, although the file may change.
        input_shape: Shape of one input.
        class_names: Names of the classes; empty for a regressor.
        reader: How image files become inputs; None if the inputs are numbers.
    """

    content: bytes
    input_shape: tuple[int, ...]
    class_names: list[str]
    reader: ImageReader | None


def read_onnx(path: Path) -> OnnxFile:
    """Read and check a file.

    It must be a valid ONNX file of at most 2 GiB that holds everything itself: no data in other files, no operators but
    those of the ONNX standard, no functions, loops, branches or sparse arrays. Its metadata must be complete, and its
    one input and one output must have the names, types and shapes that the metadata tell. No array whose size can be
    inferred may exceed `MAX_VALUES` for a batch of `BATCH_SIZE`.

    Raises:
        UserError: It cannot be read, or is refused.
    """
    if not path.is_file():  # nor a pipe, which would block
        raise UserError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError("more than 2 GiB")
        model = onnx.load_model_from_string(content)
        check_parts(model)
        onnx.checker.check_model(content, full_check=True)
        described = read_metadata({entry.key: entry.value for entry in model.metadata_props})
        check_ends(model.graph, *described)
        check_sizes(model)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    except Exception as error:  # onnx and protobuf raise many types for a file that is not theirs
        reason = " ".join((str(error).partition("\n")[0] or type(error).__name__).split())
        raise UserError(f"{path} is no ONNX file of a predictor, as `leyden export` writes them: {reason}") from error
    return OnnxFile(content, *described)


def check_parts(model: onnx.ModelProto) -> None:
    """Refuse what could read other files, run other code, or run without an end.

    Raises:
        ValueError: It is refused.
    """
    graph = model.graph
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    tensors = [*graph.initializer, *(tensor for a in attributes for tensor in (a.t, *a.tensors))]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in tensors):
        raise ValueError("it has data in other files")
    if custom := sorted({f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")}):
        raise ValueError(f"it needs the custom operator {custom[0][:80]!r}")
    if model.functions or model.training_info:
        raise ValueError("it has functions or training information")
    if any(a.HasField("g") or a.graphs for a in attributes):
        raise ValueError("it has a loop or a branch")
    if graph.sparse_initializer or any(a.HasField("sparse_tensor") or a.sparse_tensors for a in attributes):
        raise ValueError("it has sparse arrays")


def read_metadata(texts: Mapping[str, str]) -> tuple[tuple[int, ...], list[str], ImageReader | None]:
    """Return the shape of an input, the names of the classes and the reader that the metadata describe.

    Raises:
        ValueError: They are missing or wrong.
    """
    if missing := [name for name in ("input", "class_names", "preprocessing") if name not in texts]:
        raise ValueError(f"its metadata lack {', '.join(missing)}")
    values = {name: json.loads(texts[name]) for name in ("input", "class_names", "preprocessing")}
    described, names, preprocessing = values["input"], values["class_names"], values["preprocessing"]
    shape = described["shape"] if isinstance(described, dict) and isinstance(described.get("shape"), list) else []
    sizes = tuple(shape[1:])
    if shape[:1] != ["N"] or not sizes or not all(type(size) is int and 0 < size < 2**16 for size in sizes):
        raise ValueError("its metadata describe no input")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len({*names}) != len(names):
        raise ValueError("its class_names are not a list of different names")
    if described.get("dtype") == "float32":
        return sizes, names, None
    resize: Any = preprocessing.get("resize") if isinstance(preprocessing, dict) else None
    square = len(sizes) == 3 and sizes[0] in (1, 3) and sizes[1] == sizes[2]
    if described.get("dtype") != "uint8" or not square or resize not in get_args(Resize):
        raise ValueError("its metadata describe neither numbers nor square grey or RGB images")
    return sizes, names, ImageReader(sizes[0], sizes[1], resize)


def check_ends(graph: onnx.GraphProto, shape: tuple[int, ...], names: list[str], reader: ImageReader | None) -> None:
    """Refuse a graph whose input and output are not those that the metadata describe.

    Raises:
        ValueError: They differ.
    """
    expected_input = ("inputs", FLOAT) if reader is None else ("images", UINT8)
    expected_output = ("probabilities" if names else "values", FLOAT)
    for kind, parts, expected in (("input", graph.input, expected_input), ("output", graph.output, expected_output)):
        if [(part.name, part.type.tensor_type.elem_type) for part in parts] != [expected]:
            raise ValueError(f"its {kind} is not one array {expected[0]!r}, as its metadata tell")
    (batch, *sizes), (rows, *outputs) = (part.type.tensor_type.shape.dim for part in (graph.input[0], graph.output[0]))
    if not batch.dim_param or not rows.dim_param:
        raise ValueError("it takes batches of one size only")
    if [size.dim_value for size in sizes] != [*shape]:
        raise ValueError(f"its input is not of the shape {shape}, as its metadata tell")
    if len(outputs) != 1 or not outputs[0].dim_value or (names and outputs[0].dim_value != len(names)):
        raise ValueError(f"its output is not of the shape (N, {len(names) or 'values'}), as its metadata tell")


def check_sizes(model: onnx.ModelProto) -> None:
    """Refuse arrays that are too large.

    Sizes are inferred from the operators, not read from what the file says of itself. One that depends on computed
    values counts as `BATCH_SIZE`.

    Raises:
        ValueError: One is too large.
    """
    for tensor in model.graph.initializer:
        _check_size(tensor.name, tensor.dims)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    copy.graph.input[0].type.tensor_type.shape.dim[0].dim_value = BATCH_SIZE
    copy.graph.output[0].type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(copy, check_type=True, strict_mode=True, data_prop=True).graph
    for value in (*inferred.value_info, *inferred.output):
        _check_size(value.name, list(_sizes(value)))


def _check_size(name: str, sizes: Any) -> None:
    if math.prod(sizes) > MAX_VALUES:
        raise ValueError(f"its array {name[:80]!r} of shape {tuple(sizes)[:8]} is too large")


def _sizes(value: onnx.ValueInfoProto) -> Iterator[int]:
    for dimension in value.type.tensor_type.shape.dim:
        yield dimension.dim_value if dimension.HasField("dim_value") else BATCH_SIZE
