"""Data sets of pictures over HTTP: their layouts, what is alike in them, and the pictures that are bad."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rest_framework.test import APIClient

from modelhub.datasets import manifests
from tests.conftest import Account
from tests.modelhub import zips
from tests.modelhub.calls import manifest_of, problems, uploaded, warnings
from tests.modelhub.places import places

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

KIND = "image-classification"


def smooth(seed: int, *, size: int = 64, quality: int = 90) -> bytes:
    """A JPEG of large patches of colour, which keeps its look at other sizes."""
    patches = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    body = io.BytesIO()
    Image.fromarray(patches).resize((size, size), Image.Resampling.BICUBIC).save(body, "JPEG", quality=quality)
    return body.getvalue()


def classes(count: int = 10) -> dict[str, bytes]:
    return {f"{name}/{n}.jpg": zips.picture(100 * k + n) for k, name in enumerate(("cat", "dog")) for n in range(count)}


def labels(rows: list[str], header: str = "file,label") -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def test_folders_of_classes_are_divided_by_ratio(acme: Account, acme_client: APIClient) -> None:
    row = uploaded(acme_client, KIND, zips.packed(classes()))
    assert row["report"]["splits"] == {"train": {"cat": 9, "dog": 9}, "validation": {"cat": 1, "dog": 1}}
    assert row["report"]["split"] == {"by": "ratio", "validation": 0.1, "seed": 0, "column": ""}
    assert {item.name for item in manifest_of(acme, row).items} == set(classes())


def test_the_same_pictures_and_seed_are_divided_alike_in_any_order(acme_client: APIClient) -> None:
    files = classes(30)
    found = {}
    for name, order, seed in (("a", list(files), 1), ("b", list(reversed(files)), 1), ("c", list(files), 2)):
        body = zips.packed({path: files[path] for path in order})
        row = uploaded(acme_client, KIND, body, name=name, split={"by": "ratio", "validation": 0.3, "seed": seed})
        assert row["report"]["splits"]["validation"] == {"cat": 9, "dog": 9}
        found[name] = row["manifest_sha256"]
    assert found["a"] == found["b"] != found["c"]


def test_a_list_of_labels_names_class_split_and_group(acme: Account, acme_client: APIClient) -> None:
    rows = [f"pics/{n}.jpg,{'cat' if n % 2 else 'dog'},{'val' if n > 5 else 'train'},g{n}" for n in range(8)]
    files = {f"pics/{n}.jpg": zips.picture(n) for n in range(8)}
    body = zips.packed(files | {"labels.csv": labels(rows, "file,label,split,group")})
    row = uploaded(acme_client, KIND, body)
    assert row["report"]["splits"] == {"train": {"cat": 3, "dog": 3}, "validation": {"cat": 1, "dog": 1}}
    assert {item.name: item.group for item in manifest_of(acme, row).items}["pics/3.jpg"] == "g3"


def test_a_list_of_labels_and_its_files_must_agree(acme_client: APIClient) -> None:
    files = classes(4) | {"cat/unlisted.jpg": zips.picture(900)}
    rows = [f"{name},{name[:3]}" for name in classes(4)]
    rows += ["cat/missing.jpg,cat", "cat/0.jpg,dog", "dog/1.jpg", "cat/unlisted2.jpg,"]
    row = uploaded(acme_client, KIND, zips.packed(files | {"labels.csv": labels(rows)}))
    assert row["state"] == "checked"
    found = problems(row)
    assert "no file 'cat/missing.jpg'" in found["labels.csv:10"]
    assert "more than once" in found["labels.csv:11"]
    assert "1 field; expected 2" in found["labels.csv:12"]
    assert "No line" in found["cat/unlisted.jpg"]
    assert row["report"]["good"] == 8


def test_a_list_that_is_none_of_labels_leaves_the_folders(acme_client: APIClient) -> None:
    row = uploaded(acme_client, KIND, zips.packed(zips.good() | {"notes.csv": b"author,year\nann,2020\n"}))
    assert row["report"]["good"] == 10
    assert "no column file and no label; it has 'author', 'year'" in problems(row)["notes.csv"]


def test_no_group_is_on_both_sides_when_divided_by_group(acme: Account, acme_client: APIClient) -> None:
    files = classes(20)
    rows = [f"{name},{name[:3]},g{n % 5}" for n, name in enumerate(files)]
    body = zips.packed(files | {"labels.csv": labels(rows, "file,label,group")})
    row = uploaded(acme_client, KIND, body, split={"by": "group", "validation": 0.2})
    items = manifest_of(acme, row).items
    sides = {split: {item.group for item in items if item.split == split} for split in ("train", "validation")}
    assert not sides["train"] & sides["validation"]
    assert len(sides["validation"]) == 1
    assert "groups-across-splits" not in warnings(row)
    mixed = uploaded(acme_client, KIND, body, name="mixed", split={"by": "ratio"})
    assert "groups are in both splits" in warnings(mixed)["groups-across-splits"]


def test_pictures_that_look_alike_are_found(acme_client: APIClient) -> None:
    files = {f"{('cat', 'dog')[n % 2]}/{n}.jpg": smooth(n) for n in range(20)}
    files |= {f"train/{name}": data for name, data in files.items()}
    files = {name: data for name, data in files.items() if name.startswith("train/")}
    files |= {f"validation/{name}/new.jpg": smooth(50 + n) for n, name in enumerate(("cat", "dog"))}
    files["validation/cat/smaller.jpg"] = smooth(4, size=40, quality=60)
    files["train/dog/copy.jpg"] = files["train/cat/0.jpg"]
    report = uploaded(acme_client, KIND, zips.packed(files))["report"]
    assert report["duplicates"]["exact"]["examples"] == [["train/cat/0.jpg", "train/dog/copy.jpg"]]
    assert ["train/cat/4.jpg", "validation/cat/smaller.jpg"] in report["duplicates"]["near"]["examples"]
    found = {each["kind"]: each["detail"] for each in report["warnings"]}
    assert "'train/cat/4.jpg' and 'validation/cat/smaller.jpg'" in found["near-duplicates-across-splits"]
    assert "more than one label" in found["contradicting-labels"]
    assert report["content"]["resolutions"][0] == {"width": 64, "height": 64, "pictures": 23}


def test_labels_that_differ_by_case_only_are_named(acme_client: APIClient) -> None:
    files = classes() | {f"Cat/{n}.jpg": zips.picture(500 + n) for n in range(5)}
    row = uploaded(acme_client, KIND, zips.packed(files))
    assert "'Cat' and 'cat'" in warnings(row)["labels-alike"]


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ({"by": "given"}, "the upload gives none"),
        ({"by": "group"}, "at least two groups; there are none"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(acme_client: APIClient, split: dict[str, str], reason: str) -> None:
    row = uploaded(acme_client, KIND, zips.packed(classes()), split=split)
    assert row["state"] == "rejected"
    assert reason in row["report"]["reasons"][0]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"split": {"by": "chance"}}, "split.by"),
        ({"split": {"validation": 0.9}}, "split.validation"),
        ({"split": {"seed": -1}}, "split.seed"),
        ({"split": {"share": 1}}, "split.share"),
        ({"split": {"by": "ratio", "column": "who"}}, "split"),
        ({"split": "ratio"}, "split"),
        ({"columns": {"a": "number"}}, "columns"),
    ],
)
def test_a_way_to_divide_that_makes_no_sense_is_refused(
    acme_client: APIClient, options: dict[str, object], field: str
) -> None:
    answer = acme_client.post("/api/v1/datasets", {"name": "x", "kind": KIND, **options}, format="json")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"].startswith(field)


def test_a_manifest_of_the_first_format_is_still_read() -> None:
    old = (
        b'{"format":1,"kind":"image-classification","classes":["cat","dog"],"items":[{"split":"train","class":"cat",'
        b'"name":"train/cat/1.jpg","sha256":"ab","size":3,"height":12,"width":16}]}'
    )
    manifest = manifests.parse(old)
    [item] = manifest.items
    assert (item.split, item.target, item.facts, item.rows) == ("train", "cat", {"height": 12, "width": 16}, 1)
    assert manifests.parse(manifest.as_bytes()) == manifest


def test_a_manifest_of_a_format_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="the format 3"):
        manifests.parse(b'{"format":3,"kind":"x","classes":[],"items":[]}')


PETS = Path(__file__).resolve().parents[2] / "../shared/data/cats_and_dogs"


@pytest.mark.skipif(not PETS.is_dir(), reason="needs ../shared/data/cats_and_dogs beside the project")
def test_real_photographs_without_splits_are_divided(acme_client: APIClient) -> None:
    files = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted((PETS / "train").rglob("*.jpg"))}
    some = {name: data for n, (name, data) in enumerate(files.items()) if n % 10 == 0}
    report = uploaded(acme_client, KIND, zips.packed(some))["report"]
    assert report["splits"] == {"train": {"cat": 85, "dog": 85}, "validation": {"cat": 10, "dog": 10}}
