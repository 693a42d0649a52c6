"""Compare ImageGPT with a model of independent pixels, and classify its drawings.

    python benchmarks/imagegpt.py IMAGEGPT_CKPT CLASSIFIER_CKPT [IMAGES_PER_CLASS]

Both checkpoints come from `leyden fit` on the same dataset. The baseline is the best model in which the pixels are
independent given the class: a histogram for each class and pixel, counted over the training split, with the smoothing
that is best on the validation split (`independent_bits` of benchmarks/classical.py). A drawing is correct if the
classifier, which was not trained on drawings, predicts the requested class.
"""

import sys

import torch
from classical import gpt_bits, independent_bits, open_run
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leyden.data.datamodules import ImageDataModule
from leyden.models.tasks import Classifier


@torch.no_grad()
def classified(classifier: Classifier, data: ImageDataModule, images: Tensor, y: Tensor) -> Tensor:
    """Return for each image in [0, 1] whether the classifier predicts its class `y`."""
    x = F.interpolate(images * data.pixel_max, size=data.input_shape[1:], mode="bilinear").round()
    return classifier(data.normalize(x)).argmax(dim=1) == y


model, data = open_run(sys.argv[1])
classifier, classifier_data = open_run(sys.argv[2])
per_class = int(sys.argv[3]) if len(sys.argv) > 3 else 100

bpd, baseline = gpt_bits(model, data).mean(), independent_bits(model, data)
print(f"test bits per dimension: ImageGPT {bpd:.3f}, independent pixels {baseline:.3f}, ratio {bpd / baseline:.3f}")

y = torch.arange(model.num_classes).repeat_interleave(per_class)
x_test, y_test = data.test_set[:]
x_test = model.dequantize(model.quantize(data.normalize(x_test)))
right = classified(classifier, classifier_data, model.sample(y), y).float()
real = classified(classifier, classifier_data, x_test, y_test).float().mean()
print(f"of {len(y)} drawings {right.mean():.1%} are classified as asked, of the test images {real:.1%}")
print("by class: " + ", ".join(f"{label}: {right[y == label].mean():.0%}" for label in range(model.num_classes)))
