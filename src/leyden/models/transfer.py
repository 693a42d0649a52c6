"""Transfer learning: a new head on a network that was trained on other images."""

from collections import OrderedDict
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leyden.errors import UserError
from leyden.models.backbones import build_backbone, load_weights, named_weights
from leyden.models.tasks import Classifier


class TransferClassifier(Classifier):
    """A classification network of torchvision whose last layer is replaced by a new head (Yosinski et al., 2014).

    The parameters of a frozen backbone get no gradient and are in no optimizer. It stays in evaluation mode, where
    batch-norm keeps its statistics and dropout is off. The callback `Finetuning` (`configs/with/finetune.yaml`)
    unfreezes the parameters later; the mode stays.

    Set `mean` and `std` of the data to those that the weights were trained with: for nearly all weights of torchvision
    ImageNet's, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225). For weights with a name, colour images with another
    `mean` or `std` are rejected.

    Args:
        backbone: Name of the network in torchvision: `resnet50`, `alexnet`, `vgg16`, ...
        weights: Name of torchvision's weights for it, such as `IMAGENET1K_V1`, or a file: a state_dict, or a
            checkpoint of this class or of the same network in `NetworkClassifier`. Read when training starts; a
            checkpoint does not need them again. None leaves the weights random. Not read with `init_from`, which has
            the backbone's weights too.
        image_size: Height and width to which images are resized. None for that of the weights if they have a name,
            else 224.
        freeze: Whether to freeze the backbone.
        kwargs: The arguments of `Classifier`.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        weights: str | None = None,
        image_size: int | None = None,
        freeze: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        named = named_weights(backbone)
        self.image_size = image_size or (named[weights].transforms().crop_size[0] if weights in named else 224)
        self.weights = weights if self.init_from is None else None
        self.frozen = freeze
        network, num_features = build_backbone(backbone, self.image_size)
        head = OrderedDict(
            hidden=nn.Linear(num_features, 256),  # (B, F) -> (B, 256)
            activation=nn.ReLU(),
            dropout=nn.Dropout(0.5),
            head=nn.Linear(256, self.num_classes),  # logits (B, num_classes)
        )
        self.network = nn.Sequential(OrderedDict(backbone=network, head=nn.Sequential(head)))
        self.backbone.requires_grad_(not freeze)
        self.train()

    @property
    def backbone(self) -> nn.Module:
        """The network without its last layer, under the name that `Finetuning` needs."""
        return self.network.get_submodule("backbone")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W), or grey ones (B, 1, H, W), to logits (B, num_classes)."""
        x = F.interpolate(x, (self.image_size, self.image_size), mode="bilinear", antialias=True)
        return super().forward(x.expand(-1, 3, -1, -1))  # (B, 3, image_size, image_size)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation mode."""
        super().train(mode)
        self.backbone.train(mode and not self.frozen)  # frozen batch-norm stays in eval, or its statistics drift
        return self

    def on_fit_start(self) -> None:
        """Load the weights, unless a checkpoint has provided them.

        Raises:
            UserError: They cannot be read, do not fit the backbone, or were trained with another `mean` or `std`.
        """
        super().on_fit_start()
        if self.weights is not None:
            preset = named_weights(self.hparams["backbone"]).get(self.weights)
            if preset and self.hparams["input_shape"][0] == 3:
                self._check_normalisation(preset.transforms())
            load_weights(self.backbone, self.weights, self.hparams["backbone"])
            self.weights = None

    def _check_normalisation(self, preset: Any) -> None:
        """Compare `mean` and `std` of the data, if they have them, with those of a preset of torchvision."""
        for name in ("mean", "std"):
            actual = getattr(self.trainer.datamodule, name, None)  # type: ignore[attr-defined]
            expected = torch.tensor(getattr(preset, name))
            if actual is not None and not torch.as_tensor(actual).cpu().flatten().allclose(expected, atol=1e-3):
                raise UserError(
                    f"the weights {self.weights} were trained on images of other {name} than --data.{name}: "
                    f"set --data.mean {preset.mean} --data.std {preset.std}"
                )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the weights of the checkpoint."""
        super().on_load_checkpoint(checkpoint)
        self.weights = None
