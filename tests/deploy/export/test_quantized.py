"""Eight bits keep the answers, in a file less than half as large."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

import leyden
from leyden.deploy.export.quantized import quantize

from ...conftest import blocks
from ..stored import COLOURED, store
from .onnx_files import export_onnx

LABELS = np.arange(400) % 10
MODELS = ["leyden.models.conv_net.ConvNet", "leyden.models.plain_net.PlainNet", "leyden.models.mlp.MLP"]


def answers(file: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    probabilities: np.ndarray = session.run(None, {"images": images})[0]
    return probabilities


@pytest.fixture
def trained(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ONNX file of a model that has learnt to tell the blocks."""
    monkeypatch.chdir(tmp_path)
    sizes = {"channels": [16, 32, 128]} if "PlainNet" in request.param else {}
    store(request.param, COLOURED | sizes)
    predictor = leyden.load("model.ckpt")
    model = predictor.model.train()
    x = predictor.data.normalize(torch.from_numpy(blocks(LABELS, (3, 32, 32), seed=0)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    y = torch.from_numpy(LABELS)
    for _ in range(8):
        for batch in torch.arange(400).split(40):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    model.eval()
    return export_onnx(predictor)


@pytest.mark.parametrize("trained", MODELS, indirect=True, ids=lambda path: path.rpartition(".")[2])
def test_the_file_shrinks_and_its_answers_stay(trained: Path) -> None:
    training = blocks(LABELS, (3, 32, 32), seed=0)
    quantize(trained, Path("int8.onnx"), iter(np.split(training, 8)))
    assert trained.stat().st_size > 2.2 * Path("int8.onnx").stat().st_size
    unseen = blocks(LABELS, (3, 32, 32), seed=1)
    before, after = answers(trained, unseen), answers(Path("int8.onnx"), unseen)
    assert (before.argmax(axis=1) == LABELS).mean() > 0.9
    assert (after.argmax(axis=1) == before.argmax(axis=1)).mean() > 0.97
    assert np.abs(after - before).mean() < 0.02
    assert np.allclose(after.sum(axis=1), 1, atol=1e-5)  # the softmax is not rounded


@pytest.fixture
def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    store()
    return export_onnx(leyden.load("model.ckpt"), "CC0")


def test_input_output_and_metadata_are_those_of_the_source(untrained: Path) -> None:
    quantize(untrained, Path("int8.onnx"), [blocks(LABELS[:20], (3, 32, 32), seed=0)])
    source, result = (
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in (untrained, "int8.onnx")
    )
    assert result.get_modelmeta().custom_metadata_map == source.get_modelmeta().custom_metadata_map
    assert json.loads(result.get_modelmeta().custom_metadata_map["class_names"])[0] == "airplane"
    for of in ("get_inputs", "get_outputs"):
        described = [[(part.name, part.type, part.shape) for part in getattr(s, of)()] for s in (source, result)]
        assert described[0] == described[1]
    for size in (1, 2, 7, 256):
        assert answers(Path("int8.onnx"), np.zeros((size, 3, 32, 32), np.uint8)).shape == (size, 10)


def test_weights_are_8_bits_with_a_scale_for_each_channel_and_pixels_stay_exact(untrained: Path) -> None:
    quantize(untrained, Path("int8.onnx"), [blocks(LABELS[:20], (3, 32, 32), seed=0)])
    graph = onnx.load("int8.onnx").graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    weighted = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(weighted) == 4
    for node in weighted:
        weight, scale = (constants[name] for name in producers[node.input[1]].input[:2])
        assert weight.dtype == np.int8
        assert scale.size in weight.shape
        assert scale.size > 1
    first = next(i for i, node in enumerate(graph.node) if node.op_type == "QuantizeLinear")
    assert [node.op_type for node in graph.node[:first]].count("Div") == 2  # by 255, and by the standard deviation


@pytest.mark.slow
def test_attention_keeps_its_products_and_normalisations_in_float(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store("leyden.models.attention.AttentionClassifier", COLOURED)
    file = export_onnx(leyden.load("model.ckpt"))
    images = blocks(LABELS[:40], (3, 32, 32), seed=0)
    quantize(file, Path("int8.onnx"), [images])
    graph = onnx.load("int8.onnx").graph
    rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    outputs = {kind: {node.output[0] for node in graph.node if node.op_type == kind} for kind in ("Softmax", "Gemm")}
    assert outputs["Gemm"] <= rounded
    assert not outputs["Softmax"] & rounded
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert norms
    assert all(node.input[1] in weights for node in norms)
    assert file.stat().st_size > 2.2 * Path("int8.onnx").stat().st_size
    assert np.abs(answers(file, images) - answers(Path("int8.onnx"), images)).max() < 0.05
