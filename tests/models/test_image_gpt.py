"""ImageGPT: its tokens and bits against formulas, its images by their draws."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torchvision.io import read_image

from leyden.callbacks.sample_grid import draw_samples
from leyden.cli.main import main
from leyden.cli.preflight import check_model_fits_data
from leyden.data.digits import DigitsDataModule
from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.errors import UserError
from leyden.models.image_gpt import ImageGPT
from leyden.models.mlp import MLP

SMALL = {"embed_dim": 16, "num_layers": 2, "num_heads": 2}


def small(**arguments: Any) -> ImageGPT:
    """A network whose logits differ enough between levels for a mistake to show."""
    torch.manual_seed(0)
    model = ImageGPT(**{"input_shape": (1, 8, 8), "num_classes": 10, **SMALL, **arguments})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def digits(**arguments: Any) -> DigitsDataModule:
    return DigitsDataModule(**{"size": 8, "mean": 0.0, "std": 1.0, **arguments})


def some_tokens(model: ImageGPT, count: int = 3) -> Tensor:
    inputs, _ = model.inputs_and_targets(torch.rand(count, 1, 8, 8), torch.arange(count))
    return inputs


def test_a_tied_head_is_the_token_embedding_and_stays_it_after_reloading(tmp_path: Path) -> None:
    model = small()
    assert model.network.head.weight.data_ptr() == model.network.tokens.weight.data_ptr()
    run = Trainer(
        max_steps=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=tmp_path,
        limit_val_batches=0,
    )
    run.fit(model, digits())
    run.save_checkpoint(tmp_path / "some.ckpt")
    loaded = ImageGPT.load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True).eval()
    assert loaded.network.head.weight.data_ptr() == loaded.network.tokens.weight.data_ptr()
    tokens = some_tokens(model)
    assert torch.equal(loaded(tokens), model.eval()(tokens))


def test_the_digits_17_levels_survive_the_round_trip_exactly() -> None:
    data, model = digits(), small()
    data.setup()
    pixels = data.train_set.x  # uint8, 0 to 16
    images = data.normalize(pixels)
    tokens = model.quantize(images)
    assert torch.equal(tokens, pixels.flatten(1).long())
    assert torch.equal(model.dequantize(tokens), images)


def test_squares_of_pixels_are_averaged_before_they_are_rounded() -> None:
    model = small(input_shape=(1, 4, 4), levels=5, pool=2)
    x = torch.tensor([[0, 4, 4, 4], [0, 4, 4, 4], [0, 0, 1, 0], [0, 0, 0, 0]]).reshape(1, 1, 4, 4) / 4
    assert model.quantize(x).tolist() == [[2, 4, 0, 0]]  # means 2, 4, 0 and 1/4 of 4
    assert model.dequantize(model.quantize(x)).tolist() == [[[[0.5, 1.0], [0.0, 0.0]]]]


def test_the_class_comes_first_and_every_pixel_is_the_target_of_the_one_before() -> None:
    model = small(input_shape=(1, 2, 2))
    inputs, targets = model.inputs_and_targets(torch.tensor([[[[0, 5], [16, 1]]]]) / 16, torch.tensor([7]))
    assert inputs.tolist() == [[17 + 7, 0, 5, 16]]
    assert targets.tolist() == [[0, 5, 16, 1]]


@pytest.mark.parametrize("arguments", [{"mean": 0.5, "std": 0.5}, {"std": 0.5}])
def test_pixels_outside_0_to_1_are_refused_with_what_to_set(arguments: dict[str, float]) -> None:
    data, model = digits(**arguments), small()
    data.setup()
    with pytest.raises(UserError, match=r"pixels in \[0, 1\].*--data.mean 0.0 --data.std 1.0"):
        model.quantize(data.normalize(data.train_set.x))


def test_bits_per_dimension_are_the_formula_over_all_tokens_also_with_a_smaller_last_batch() -> None:
    data, model = digits(batch_size=250), small()  # 250 + 110
    run = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    run.test(model, data, verbose=False)
    with torch.no_grad():
        inputs, targets = model.inputs_and_targets(data.normalize(data.test_set.x), data.test_set.labels)
        p = model(inputs).softmax(dim=2).gather(2, targets[:, :, None])  # (N, T, 1) of what came
    assert run.callback_metrics["test/bpd"].item() == pytest.approx(-p.log2().mean().item(), rel=1e-5)
    assert run.callback_metrics["test/loss"].item() == pytest.approx(-p.log().mean().item(), rel=1e-5)


def test_a_fresh_network_knows_nothing_and_needs_log2_of_17_bits() -> None:
    model = ImageGPT(input_shape=(1, 8, 8), num_classes=10, **SMALL).eval()
    inputs, targets = model.inputs_and_targets(torch.rand(50, 1, 8, 8), torch.arange(50) % 10)
    bits = model.loss(model(inputs), targets).item() / math.log(2)
    assert bits == pytest.approx(math.log2(17), rel=0.01)


def test_cached_sampling_draws_what_uncached_sampling_draws_and_a_seed_always_the_same() -> None:
    model, y = small(), torch.arange(10)
    drawn = model.sample(y)
    assert torch.equal(drawn, model.sample(y, cached=False))
    assert torch.equal(drawn, model.sample(y))
    model.hparams["sample_seed"] = 1
    assert not torch.equal(drawn, model.sample(y))


def test_sampling_leaves_the_training_mode_and_the_global_generator_alone() -> None:
    model = small(dropout=0.5).train()
    state = torch.get_rng_state()
    model.sample(torch.tensor([3]))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("greedy", [{"top_k": 1}, {"temperature": 1e-6}])
def test_the_likeliest_level_alone_and_a_temperature_near_zero_are_greedy(greedy: dict[str, float]) -> None:
    model = small(**greedy)
    y = torch.tensor([0, 4])
    tokens = 17 + y[:, None]
    for _ in range(64):
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(dim=2)], dim=1)
    assert torch.equal(model.sample(y), model.dequantize(tokens[:, 1:]))


def test_top_k_and_temperature_change_the_frequencies_as_they_should() -> None:
    model = small(input_shape=(1, 1, 1), top_k=3, temperature=0.5)
    logits = model(torch.tensor([[17]]))[0, 0]
    order = logits.argsort(descending=True)[:3]
    expected = (2 * logits[order]).softmax(dim=0)
    levels = (16 * model.sample(torch.zeros(20_000, dtype=torch.int64))).round().long().flatten()
    frequencies = levels.bincount(minlength=17) / len(levels)
    torch.testing.assert_close(frequencies[order], expected, atol=0.015, rtol=0)
    assert frequencies[order].sum() == pytest.approx(1)


def test_the_class_matters_to_every_pixel() -> None:
    model = small()
    tokens = some_tokens(model, count=1).repeat(2, 1)
    tokens[1, 0] += 1  # the same pixels, asked for as the next class
    of_one, of_other = model(tokens)
    assert (of_one != of_other).any(dim=1).all()


def test_three_channels_are_read_one_after_the_other() -> None:
    model = small(input_shape=(3, 4, 4), pool=2)
    x = torch.rand(2, 3, 4, 4)
    assert model.sample(torch.tensor([1, 2])).shape == (2, 3, 2, 2)
    assert torch.equal(model.quantize(x)[:, 4:8], model.quantize(x.roll(1, dims=1))[:, 8:12])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (10,)}, r"images \(C, H, W\)"),
        ({"num_classes": None}, "class labels"),
        ({"num_heads": 3}, "embed_dim 16 must be a multiple of num_heads 3"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"top_k": 18}, "top_k 1 to 17"),
        ({"pool": 3}, "pool 3"),
        ({"levels": 1}, "levels"),
    ],
)
def test_what_cannot_work_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        small(**arguments)


def test_preflight_sends_tokens_and_asks_for_no_class_scores() -> None:
    check_model_fits_data(small(), digits())
    with pytest.raises(UserError, match=r"does not fit SyntheticClusters.*output is \(9,\), the target wants \(10,\)"):
        check_model_fits_data(MLP(input_shape=(10,), num_classes=9), SyntheticClustersDataModule())


def test_fit_and_predict_draw_a_grid_and_write_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(
        "model:\n  class_path: ImageGPT\n"
        "  init_args: {embed_dim: 16, num_layers: 1, num_heads: 2, num_samples: 3}\n"
        "data:\n  class_path: DigitsDataModule\n  init_args: {size: 8, mean: 0.0, std: 1.0}\n"
        "trainer: {max_epochs: 1, limit_train_batches: 2}\n"
    )
    assert main(["fit", "--config", "own.yaml"]) == 0
    assert main(["predict", "--ckpt_path", "best", "--model.top_k", "4"]) == 0
    fit, predict = sorted(tmp_path.glob("runs/own/*"))
    assert sorted(file.name for file in predict.iterdir()) == ["config.yaml", "samples.png"]
    assert not torch.equal(read_image(str(fit / "samples.png")), read_image(str(predict / "samples.png")))


def test_the_picture_has_a_row_for_each_class_from_top_to_bottom(tmp_path: Path) -> None:
    greys = torch.tensor([0.2, 0.4, 0.6, 0.8]).repeat_interleave(3)  # three images of each class
    draw_samples(tmp_path, greys[:, None, None, None].expand(-1, 1, 8, 8), ["cat", "dog", "frog", "truck"])
    picture = read_image(str(tmp_path / "samples.png"))[0]  # red
    column = picture[:, picture.shape[1] // 2]  # through the middle image of each row
    assert [grey for grey in column.unique_consecutive() if grey in (51, 102, 153, 204)] == [51, 102, 153, 204]


def test_training_on_a_few_images_learns_them() -> None:
    data = digits()
    data.setup()
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=0.01)
    model = ImageGPT(input_shape=(1, 8, 8), num_classes=10, pool=2, **SMALL, dropout=0.0, optimizer=optimizer)
    inputs, targets = model.inputs_and_targets(data.normalize(data.train_set.x[:10]), data.train_set.y[:10])
    step = model.configure_optimizers()
    for _ in range(100):
        loss = model.loss(model(inputs), targets)
        step.zero_grad()
        loss.backward()
        step.step()
    assert loss.item() / math.log(2) < 1  # of the log2(17) = 4.09 that knowing nothing costs
