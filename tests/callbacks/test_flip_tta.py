"""Accuracy with mirror images, against plain torch."""

import pytest
import torch
from lightning.pytorch import Trainer

from leyden.callbacks.flip_tta import FlipTTA
from leyden.data.digits import DigitsDataModule
from leyden.models.conv_net import ConvNet


def test_mirror_accuracy_adds_the_logits_of_both_images_and_does_not_change_the_plain_accuracy() -> None:
    data = DigitsDataModule()
    model = ConvNet(input_shape=(1, 28, 28), num_classes=10).eval()
    run = Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", callbacks=[FlipTTA()])
    run.test(model, data, verbose=False)
    with torch.no_grad():
        x = data.normalize(data.test_set.x)
        plain, both = model(x), model(x) + model(x.flip(3))
    for name, logits in (("test/acc", plain), ("test/acc_mirror", both)):
        right = (logits.argmax(dim=1) == data.test_set.y).float().mean().item()
        assert run.callback_metrics[name].item() == pytest.approx(right)
