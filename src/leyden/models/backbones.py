"""The classification networks of torchvision without their last layer, and their pretrained weights."""

import re
from pathlib import Path

from torch import Tensor, hub, nn
from torchvision import models

from leyden.errors import UserError, did_you_mean
from leyden.models.weight_files import check_fit, first_line, read_file, weights_in


def named_weights(backbone: str) -> dict[str, models.WeightsEnum]:
    """Return the weights that torchvision has for a network, by name.

    Raises:
        UserError: torchvision has no such network.
    """
    names = models.list_models(module=models)  # of classification networks
    if backbone not in names:
        nearest = did_you_mean(backbone, names) or "; resnet50 is one"
        raise UserError(f"torchvision has no classification network `{backbone}`{nearest}")
    return dict(models.get_model_weights(backbone).__members__)


def build_backbone(backbone: str, image_size: int) -> tuple[nn.Module, int]:
    """Build a network with random weights that maps images (B, 3, image_size, image_size) to features (B, F).

    Returns:
        The network, and F.

    Raises:
        UserError: Its last layer is not linear.
    """
    size = {"image_size": image_size} if backbone.startswith("vit_") else {}  # it learns a vector for each position
    network = models.get_model(backbone, weights=None, **size)
    name = last_layer(network)
    last = network.get_submodule(name)
    if not isinstance(last, nn.Linear):
        raise UserError(f"{backbone} does not end in a linear layer, so there is none to replace: take another")
    network.set_submodule(name, nn.Identity())
    for child, _ in list(network.named_children()):
        if child.lower().startswith("aux"):  # further outputs of GoogLeNet and Inception, for their original training
            setattr(network, child, None)
            vars(network)["aux_logits"] = False
    if hasattr(network, "transform_input"):  # the same two: from ImageNet's mean and std to those of their weights
        vars(network)["transform_input"] = True
    return network, last.in_features


def last_layer(network: nn.Module) -> str:
    """Return the name of the last module."""
    *_, (name, _) = network.named_modules()
    return str(name)


def load_weights(network: nn.Module, weights: str, backbone: str) -> None:
    """Load all weights of a network from `build_backbone`; those of the last layer are dropped.

    Args:
        network: The network.
        weights: A name in `named_weights`, downloaded if it is not in the cache, or a file: a state_dict, or a
            checkpoint with the network as `network` or `network.backbone`. No code in the file is run.
        backbone: The network's name in torchvision.

    Raises:
        UserError: The weights cannot be read, or have other names or shapes; then nothing is loaded.
    """
    dropped = f"{last_layer(network)}."
    state = {name: tensor for name, tensor in _read(weights, backbone).items() if not name.startswith(dropped)}
    own = network.state_dict()
    check_fit(state, own, f"the weights {weights} do not fit {backbone}")
    network.load_state_dict(own | state)


def _read(weights: str, backbone: str) -> dict[str, Tensor]:
    """Return tensors by their names in torchvision's network."""
    named = named_weights(backbone)
    if weights in named:
        url = named[weights].url
        try:
            content = hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
        except Exception as error:
            folder = Path(hub.get_dir()) / "checkpoints"
            raise UserError(
                f"cannot get the weights {weights} of {backbone} ({first_line(error)}): put {url} into {folder}, "
                "under that name, or give another file by --model.weights FILE"
            ) from error
    elif Path(weights).is_file():
        content = read_file(Path(weights))
    else:
        raise UserError(f"no weights {weights}: {backbone} has {', '.join(named)}, and there is no such file")

    state = weights_in(content, weights)
    prefix = next((p for p in ("network.backbone.", "network.") if any(name.startswith(p) for name in state)), "")
    state = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    # files of DenseNet have norm.1 for norm1, and those of GoogLeNet and Inception the further outputs
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.", r"\1", name): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in state.items() if not name.lower().startswith("aux")}
