"""The residual network against torchvision's, with copied weights."""

import torch
from torch import nn
from torchvision.models import resnet18

from leyden.models.res_net import ResNet


def test_it_is_torchvisions_resnet18_with_a_small_stem() -> None:
    torch.manual_seed(0)
    reference = resnet18(num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    model = ResNet(input_shape=(3, 32, 32), num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == 11_173_962

    def weights(module: nn.Module) -> dict[tuple[int, ...], list[torch.Tensor]]:
        by_shape: dict[tuple[int, ...], list[torch.Tensor]] = {}
        for layer in module.modules():  # a block's shortcut comes before or after its residual part, so by shape
            for parameter in layer.parameters(recurse=False):
                by_shape.setdefault((isinstance(layer, nn.BatchNorm2d), *parameter.shape), []).append(parameter)
        return by_shape

    ours, theirs = weights(model.network), weights(reference)
    assert {k: len(v) for k, v in ours.items()} == {k: len(v) for k, v in theirs.items()}
    with torch.no_grad():
        for shape, parameters in ours.items():
            for parameter, other in zip(parameters, theirs[shape], strict=True):
                other.copy_(torch.randn_like(other) / other[0].numel() ** 0.5)
                parameter.copy_(other)
        # batch-norm shares shapes between shortcut and residual: make its order irrelevant by equal weights in a stage
        for module in (*model.network.modules(), *reference.modules()):
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(0.7)
                module.bias.fill_(0.1)
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(model.train()(x), reference.train()(x), rtol=1e-3, atol=1e-4)


def test_a_fresh_block_is_the_identity_up_to_its_activation() -> None:
    block = ResNet(input_shape=(3, 8, 8), num_classes=2, widths=[4]).network.stage1[0]  # type: ignore[index,union-attr]
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x.relu())


def test_every_stage_after_the_first_halves_the_image() -> None:
    network = ResNet(input_shape=(3, 32, 32), num_classes=10, widths=[4, 8, 16], blocks_per_stage=1).network
    sizes = []
    x = torch.randn(2, 3, 32, 32)
    for name, layer in network.named_children():
        x = layer(x)
        if name.startswith("stage"):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [(4, 32, 32), (8, 16, 16), (16, 8, 8)]


def test_channels_last_changes_no_result() -> None:
    model = ResNet(input_shape=(3, 16, 16), num_classes=10, widths=[8, 16]).eval()
    x = torch.randn(2, 3, 16, 16)
    expected = model(x)
    model.network.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(model.network(x), expected)
