"""Nested configurations as options."""

from leyden.runs.flat_config import different_options, flat

CONFIG = {
    "model": {"class_path": "a.b.Net", "init_args": {"size": 1, "optimizer": {"class_path": "c.SGD", "init_args": {}}}},
    "trainer": {"callbacks": [{"class_path": "d.Stop", "init_args": {"patience": 3}}, {"class_path": "d.Bar"}]},
    "tags": ["x", "y"],
}


def test_options_are_named_as_on_the_command_line_and_lists_stay_whole() -> None:
    assert flat(CONFIG) == {
        "model.class_path": "a.b.Net",
        "model.size": 1,
        "model.optimizer.class_path": "c.SGD",
        "trainer.callbacks": CONFIG["trainer"]["callbacks"],  # type: ignore[call-overload]
        "tags": ["x", "y"],
    }


def test_classes_in_lists_are_split_by_their_names() -> None:
    options = flat(CONFIG, split_lists=True)
    assert options["trainer.callbacks.Stop.patience"] == 3
    assert options["trainer.callbacks.Bar.class_path"] == "d.Bar"
    assert options["tags"] == ["x", "y"]


def test_only_options_that_differ_are_returned_with_none_where_one_is_missing() -> None:
    found = different_options({"a": 1, "b": [2]}, {"a": 1, "b": [3], "c": 4}, {"a": 1, "b": [2]})
    assert found == {"b": ([2], [3], [2]), "c": (None, 4, None)}
