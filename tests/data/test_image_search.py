"""All images of a folder are found, and what is no image is counted."""

from pathlib import Path

from leyden.data.image_search import find_images


def test_images_are_found_in_all_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["b.png", "a/z.JPG", "a/b/c.webp", "a\nb/猫.gif"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    found = find_images(tmp_path)
    assert list(found.files) == sorted(names)
    status = (tmp_path / "b.png").stat()
    assert found.files["b.png"] == (5, status.st_mtime_ns)
    assert not found.broken
    assert not found.ignored


def test_other_files_are_counted_by_their_suffix(tmp_path: Path) -> None:
    for name in ("a.txt", "b.TXT", "README", ".DS_Store", "._a.png"):
        (tmp_path / name).touch()
    found = find_images(tmp_path)
    assert found.files == {}
    assert found.ignored == {".txt": 2, "no suffix": 1, "hidden": 2}


def test_links_are_followed_and_those_that_lead_nowhere_are_broken(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "cats").symlink_to(outside)
    (root / "up").symlink_to(tmp_path / "root")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "lost.png").symlink_to(root / "none")
    found = find_images(root)
    assert list(found.files) == ["cats/a.png"]
    assert found.broken["up"] == "a link to a folder above it"
    assert "symbolic link" in found.broken["loop.png"]
    assert "No such file" in found.broken["lost.png"]
