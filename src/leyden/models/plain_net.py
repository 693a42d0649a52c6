"""A small convolutional network with a choice of convolution, pooling, normalisation and activation."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from leyden.models.tasks import Classifier

# torch's order: in_channels, out_channels, kernel_size, stride, padding, dilation
Convolution = Callable[[int, int, int, int, str, int], nn.Module]


class DepthwiseSeparableConv2d(nn.Sequential):
    """A separate kernel for each channel, then a 1x1 convolution that mixes the channels.

    A pixel costs kernel_size^2 C_in + C_in C_out multiplications instead of kernel_size^2 C_in C_out. As in Xception
    (Chollet, 2017) there is nothing between the two; MobileNet (Howard et al., 2017) has batch-norm and ReLU there.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W).
        out_channels: Channels of the output (B, out_channels, H, W).
        kernel_size: Height and width of each channel's kernel.
        stride: Step of each channel's kernel.
        padding: As in torch.nn.Conv2d.
        dilation: Distance between the points of each channel's kernel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: str | int = 0,
        dilation: int = 1,
    ) -> None:
        depthwise = nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, dilation, groups=in_channels)
        pointwise = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        super().__init__(OrderedDict(depthwise=depthwise, pointwise=pointwise))


class RowsToSequence(nn.Module):
    """Turn images into sequences from top to bottom: each row is a time step, its pixels are the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C*W, T=H)."""
        return x.transpose(2, 3).flatten(1, 2)


class PlainNet(Classifier):
    """Stages of convolutions, each followed by a pooling; then the mean over all positions and a linear layer.

    The stages are those of VGG (Simonyan and Zisserman, 2015), the mean instead of wide linear layers is from
    Network in Network (Lin et al., 2014). He et al. (2016) call networks without shortcuts plain.

    Args:
        channels: Channels of each stage.
        convs_per_stage: Number of convolutions in a stage, each followed by `norm` and `activation`.
        kernel_size: Side of the convolutions' kernels, 3 for 3x3.
        dilation: Distance between the points of a kernel: with 2, 3x3 points span 5x5 pixels (Yu and Koltun, 2016).
        conv: Class of the convolutions, called as torch.nn.Conv2d is: DepthwiseSeparableConv2d, torch.nn.Conv1d.
        norm: Class of the normalisation, called with the number of channels; torch.nn.Identity for none.
        activation: Class of the activation, with its arguments.
        response_norm: Class of a layer before each pooling; torch.nn.LocalResponseNorm in AlexNet (Krizhevsky et
            al., 2012).
        pool: Class of the pooling, called with the factor 2.
        rearrange: Class of the first layer: RowsToSequence makes sequences for torch.nn.Conv1d.
        kwargs: The arguments of `Classifier`.
    """

    def __init__(
        self,
        channels: Sequence[int] = (8, 16, 32),
        convs_per_stage: int = 1,
        kernel_size: int = 3,
        dilation: int = 1,
        conv: Convolution = nn.Conv2d,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        activation: Callable[[], nn.Module] = nn.ReLU,
        response_norm: Callable[[], nn.Module] = nn.Identity,
        pool: Callable[[int], nn.Module] = nn.MaxPool2d,
        rearrange: Callable[[], nn.Module] = nn.Identity,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        layers: OrderedDict[str, nn.Module] = OrderedDict(rearrange=rearrange())
        in_channels = layers["rearrange"](self.example_input_array).shape[1]
        for i, out_channels in enumerate(channels, start=1):
            for j in range(1, convs_per_stage + 1):
                # with a bias, which batch-norm makes redundant, because `norm` may be torch.nn.Identity
                layers[f"conv{i}_{j}"] = conv(in_channels, out_channels, kernel_size, 1, "same", dilation)
                layers[f"norm{i}_{j}"] = norm(out_channels)
                layers[f"activation{i}_{j}"] = activation()  # (B, out_channels, H, W)
                in_channels = out_channels
            layers[f"response_norm{i}"] = response_norm()
            layers[f"pool{i}"] = pool(2)  # (B, out_channels, H/2, W/2)
        layers["positions"] = nn.Flatten(2)  # (B, C, H, W) or (B, C, T) -> (B, C, positions)
        layers["mean"] = nn.AdaptiveAvgPool1d(1)  # (B, C, 1)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(in_channels, self.num_classes)  # logits (B, num_classes)
        self.network = nn.Sequential(layers)
