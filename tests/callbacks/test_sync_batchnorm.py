"""Batch-norm over the batches of all processes, against torch's over one batch that holds them all."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import leyden.models.plain_net
from leyden import PROJECT
from leyden.callbacks.sync_batchnorm import SyncBatchNorm, SyncBatchNorm2d, check_batch_norms
from leyden.cli.main import main

LAYERS = {  # and the shape of a sample
    "1d": (nn.BatchNorm1d, (4,)),
    "1d of sequences": (nn.BatchNorm1d, (4, 6)),
    "2d": (nn.BatchNorm2d, (4, 5, 3)),
    "3d": (nn.BatchNorm3d, (4, 2, 3, 2)),
}


def synchronised(layer: nn.Module) -> nn.Module:
    return SyncBatchNorm().apply(nn.Sequential(deepcopy(layer)))[0]


def steps(layer: nn.Module, xs: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """What some training batches give: outputs, gradients of the inputs and of the parameters, and the buffers."""
    seen = []
    for x, weight in zip(xs, weights, strict=True):
        leaf = x.clone().requires_grad_()
        output = layer(leaf)
        (output * weight).sum().backward()
        seen += [output.detach(), leaf.grad]
    parameters = [parameter.grad for parameter in layer.parameters()]
    return [*seen, *parameters, *(buffer.double() for buffer in layer.buffers())]  # type: ignore[list-item]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.3, "affine": False}, {"track_running_stats": False}, {"bias": False}],
    ids=str,
)
def test_ranks_compute_what_torch_computes_of_the_whole_batch(kind: str, options: dict[str, Any], ranks: Any) -> None:
    module, sample = LAYERS[kind]
    torch.manual_seed(0)
    layer = module(sample[0], **options).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    sizes = [5, 3]  # the last batch of rank 1 is smaller
    xs = [3 + torch.randn(sum(sizes), *sample).double() * 2 for _ in range(3)]
    weights = [torch.randn_like(x) for x in xs]
    copies = [synchronised(layer) for _ in sizes]
    wholes = steps(layer, xs, weights)

    def part(rank: int) -> list[Tensor]:
        mine = [[t.split(sizes)[rank] for t in tensors] for tensors in (xs, weights)]
        return steps(copies[rank], *mine)

    first, second = ranks.run(part)
    for i, (whole, a, b) in enumerate(zip(wholes, first, second, strict=True)):
        if i < 2 * len(xs):  # of samples
            torch.testing.assert_close(torch.cat([a, b]), whole)
        elif i < 2 * len(xs) + len(list(layer.parameters())):  # of parameters, whose gradients DDP adds
            torch.testing.assert_close(a + b, whole)
        else:
            torch.testing.assert_close(a, whole)
            torch.testing.assert_close(b, whole)


def test_single_precision_keeps_its_digits_far_from_zero(ranks: Any) -> None:
    x = 1000 + torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    layer = synchronised(nn.BatchNorm2d(3))
    layers = [deepcopy(layer), layer]
    output = torch.cat(ranks.run(lambda rank: layers[rank](x[32 * rank :][:32])))
    torch.testing.assert_close(output.double(), nn.BatchNorm2d(3).double()(x.double()), atol=2e-4, rtol=0)


def test_sixteen_bits_come_out_as_they_came_in(ranks: Any) -> None:
    x = torch.randn(8, 3, 4, 4).bfloat16()
    layers = [synchronised(nn.BatchNorm2d(3)) for _ in range(2)]
    output = torch.cat(ranks.run(lambda rank: layers[rank](x[4 * rank :][:4])))
    torch.testing.assert_close(output, nn.BatchNorm2d(3)(x))


def test_evaluation_is_that_of_batch_norm_and_asks_no_other_rank(ranks: Any) -> None:
    layer = nn.BatchNorm2d(3)
    layer(torch.randn(8, 3, 4, 4))
    x = torch.randn(2, 3, 4, 4)
    assert synchronised(layer).eval()(x).equal(layer.eval()(x))
    assert ranks.sums == 0


def test_a_frozen_layer_keeps_its_statistics(ranks: Any) -> None:
    layer = nn.BatchNorm2d(3)
    layer.track_running_stats = False  # as Lightning's BaseFinetuning freezes
    layers = [synchronised(layer) for _ in range(2)]
    ranks.run(lambda rank: layers[rank](torch.randn(4, 3, 4, 4)))
    assert layers[0].running_mean.equal(torch.zeros(3))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2, momentum=None)), nn.Flatten())


@pytest.mark.usefixtures("ranks")
@pytest.mark.parametrize(("backend", "kind"), [("gloo", SyncBatchNorm2d), ("nccl", nn.SyncBatchNorm)])
def test_names_and_parameters_stay_and_batch_norm_comes_back(
    backend: str, kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)
    model: Any = network()
    names, parameters = list(model.state_dict()), list(model.parameters())
    plugin = SyncBatchNorm()
    model = plugin.apply(model)
    assert type(model[1][0]) is kind
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    model = plugin.revert(model)
    assert not any(isinstance(module, (nn.SyncBatchNorm, SyncBatchNorm2d)) for module in model.modules())
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))


class BatchNormAct2d(nn.BatchNorm2d):
    """Stands for timm's."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input).relu()


def test_a_batch_norm_that_does_more_is_refused_before_another_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    check_batch_norms(network())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(BatchNormAct2d, "__module__", "leyden.models.plain_net")  # from where it may be imported
    monkeypatch.setattr(leyden.models.plain_net, "BatchNormAct2d", BatchNormAct2d, raising=False)
    configs = [f"--config={PROJECT}/configs/{name}.yaml" for name in ("convnet_digits", "with/ddp_cpu")]
    words = ["--model=PlainNet", "--model.norm=leyden.models.plain_net.BatchNormAct2d"]
    assert main(["fit", *configs, *words]) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert "would replace BatchNormAct2d by a plain batch-norm" in error
    assert "set --trainer.sync_batchnorm false" in error


@pytest.mark.parametrize(
    ("make", "count"), [(lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout()), 2), (network, 1)], ids=["no norm", "one"]
)
def test_nothing_changes_without_batch_norm_or_with_one_process(
    make: Callable[[], nn.Module], count: int, ranks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: count)
    model = make()
    before = list(model.modules())
    after = list(SyncBatchNorm().apply(model).modules())
    assert all(a is b for a, b in zip(after, before, strict=True))
    assert ranks.sums == 0
