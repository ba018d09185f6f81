"""The drawn pictures: the same at every run, half of them cats, and none in two splits."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from aiaas_site import drawings


def test_a_picture_is_the_same_at_every_run() -> None:
    assert drawings.draw("cat", seed=7) == drawings.draw("cat", seed=7)


def test_another_seed_or_class_gives_another_picture() -> None:
    pictures = {drawings.draw(kind, seed=seed) for kind in drawings.CLASSES for seed in range(20)}
    assert len(pictures) == 40


def test_pictures_are_jpeg_files_of_the_stated_size() -> None:
    with Image.open(io.BytesIO(drawings.draw("not_cat", seed=0))) as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (200, 200))


def test_the_splits_are_balanced_and_share_no_picture() -> None:
    items = list(drawings.drawings(train=20, validation=8))
    counts = {folder: sum(item.name.startswith(folder) for item in items) for folder in FOLDERS}
    assert counts == {"train/cat/": 10, "train/not_cat/": 10, "validation/cat/": 4, "validation/not_cat/": 4}
    assert len({item.data for item in items}) == len(items)


FOLDERS = ("train/cat/", "train/not_cat/", "validation/cat/", "validation/not_cat/")


def test_the_archive_has_the_same_bytes_at_every_run(tmp_path: Path) -> None:
    first, second = (
        drawings.archive(tmp_path / name, drawings.drawings(train=4, validation=2)) for name in ("a.zip", "b.zip")
    )
    assert first == second
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 6


def test_an_unknown_class_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'dragon'.*cat, not_cat"):
        drawings.draw("dragon", seed=0)
