"""Files of weights: what is read, what is refused, and in which words."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from leyden.errors import UserError
from leyden.models.weight_files import check_fit, read_file, weights_in


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before torch 1.6"])
def test_a_state_dict_is_read_in_both_formats_of_torch(archive: bool, tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    torch.save(state, tmp_path / "some.pth", _use_new_zipfile_serialization=archive)
    read = weights_in(read_file(tmp_path / "some.pth"), "some.pth")
    assert list(read) == list(state)
    assert all(read[name].equal(state[name]) for name in state)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before torch 1.6"])
def test_a_file_that_could_run_code_is_refused_without_advice_to_run_it(archive: bool, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"weight": Trap()}, tmp_path / "some.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(UserError, match=r"holds no weights \(not made of tensors and plain values alone\)$"):
        read_file(tmp_path / "some.pth")
    assert not (tmp_path / "sprung").exists()


def test_one_flipped_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "some.pth"
    torch.save({"weight": torch.zeros(1000)}, file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"some.pth is damaged or .* \(the checksum of some/data/0 is wrong\)"):
        read_file(file)


@pytest.mark.parametrize("content", [[1], {}, {"a": 1}, {"state_dict": 5}, {3: torch.ones(1)}, {"state_dict": {}}])
def test_what_is_not_tensors_by_name_is_refused(content: Any) -> None:
    with pytest.raises(UserError, match=r"^some\.pth holds no state_dict"):
        weights_in(content, "some.pth")


def test_the_names_of_a_compiled_network_are_those_of_the_network() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    assert set(weights_in(torch.compile(network).state_dict(), "some.pth")) == set(network.state_dict())


def test_what_does_not_fit_is_counted_and_named_with_both_shapes() -> None:
    own = {"a": torch.ones(2, 3), "b": torch.ones(()), "c": torch.ones(1), "norm.num_batches_tracked": torch.ones(())}
    check_fit({name: own[name] for name in "abc"}, own, "they do not fit")
    weights: dict[str, Tensor] = {"a": torch.ones(4, 3), "b": torch.ones(5), "d": torch.ones(1)}
    with pytest.raises(UserError) as error:
        check_fit(weights, own, "they do not fit", "; train longer")
    assert str(error.value) == (
        "they do not fit: 1 missing (c); 1 unknown (d); 2 of another shape (a 4x3 for 2x3, b 5 for one number)"
        "; train longer"
    )
