"""What an uploaded zip file may hold: hostile ones are refused by name, bad files among good ones are reported."""

import io
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub import datasets
from modelhub.datasets import archives
from tenants import scoping
from tests.conftest import Account
from tests.modelhub import zips
from tests.modelhub.calls import create, shown, upload
from tests.modelhub.places import places, stored_files

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

CATS_AND_DOGS = Path(__file__).resolve().parents[2] / "../shared/data/cats_and_dogs"


def refused(client: APIClient, body: bytes) -> Any:
    """The problem that the upload is answered with, after a look at what it must leave."""
    dataset = create(client)
    answer = upload(client, dataset, body)
    assert answer.status_code == 400, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    row = shown(client, dataset)
    assert row["state"] == "rejected"
    assert row["report"] == problem["report"]
    assert row["report"]["reasons"]
    assert (row["items"], row["size"], row["progress"], row["manifest_sha256"]) == (0, 0, {}, "")
    return problem


def entry(name: str, *, mode: int = 0, flags: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    info.flag_bits = flags
    return info


def packed_with(name: str, *, mode: int = 0, data: bytes = b"x") -> bytes:
    """A usable data set with one more entry, of a name that zipfile itself would not write."""
    body = io.BytesIO(zips.packed(zips.good()))
    with zipfile.ZipFile(body, "a") as archive:
        archive.writestr(entry(name, mode=mode), data)
    return body.getvalue()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.jpg", "leads elsewhere"),
        ("train/cat/../../evil.jpg", "leads elsewhere"),
        ("train/./cat/1.jpg", "leads elsewhere"),
        ("train//cat/1.jpg", "leads elsewhere"),
        ("..", "leads elsewhere"),
        ("/etc/passwd", "absolute"),
        ("C:/windows/evil.jpg", "absolute"),
        ("train\\cat\\1.jpg", "backslash"),
        ("..\\evil.jpg", "backslash"),
        ("train/cat/bell\x07.jpg", "control character"),
        ("train/c\nat/1.jpg", "control character"),
        ("train/cat/1.jpg\0.exe", "control character"),
        ("train/cat/\u2028.jpg", "control character"),
        ("train/cat/" + "x" * 600, "610 characters"),
        ("train/cat/0.jpg", "two entries"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_with_a_name_that_is_not_safe_refuses_the_file(
    acme_client: APIClient, places: Path, name: str, reason: str
) -> None:
    problem = refused(acme_client, packed_with(name))
    assert reason in problem["detail"]
    assert repr(name[:100]).strip("'\"") in problem["detail"]
    assert not stored_files(places)
    assert not (places / "evil.jpg").exists()


@pytest.mark.parametrize(
    ("mode", "reason"), [(0o120777, "is a link"), (0o010644, "neither a file nor a folder"), (0o060644, "neither")]
)
def test_an_entry_that_is_no_file_refuses_the_file(acme_client: APIClient, mode: int, reason: str) -> None:
    problem = refused(acme_client, packed_with("train/cat/link.jpg", mode=mode, data=b"/etc/passwd"))
    assert reason in problem["detail"]
    assert "train/cat/link.jpg" in problem["detail"]


def test_an_encrypted_entry_refuses_the_file(acme_client: APIClient) -> None:
    body = bytearray(zips.packed(zips.good()))
    at = body.index(b"PK\x01\x02")
    body[at + 8] |= 1
    problem = refused(acme_client, bytes(body))
    assert "'train/cat/0.jpg' is encrypted" in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [b"no zip at all", b"PK", b"PK\x05\x06", b"\0" * 5000, b"PK\x03\x04" + b"a" * 100, zips.packed(zips.good())[:-30]],
)
def test_what_is_no_zip_file_is_refused(acme_client: APIClient, body: bytes) -> None:
    assert "zip file" in refused(acme_client, body)["detail"]


def directory_of(entries: int, *, claimed: int) -> bytes:
    """A zip file of so many entries that all name the same bytes, and of a directory that claims another number."""
    name = b"train/cat/%06d"
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, len(name % 0), 0) + name % 0
    headers = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0) + name % number
        for number in range(entries)
    )
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, claimed, claimed, len(headers), len(local), 0)
    return local + headers + end


@pytest.mark.parametrize("claimed", [60_000, 1, 0])
def test_too_many_entries_are_refused_fast_whatever_is_claimed(acme_client: APIClient, claimed: int) -> None:
    body = directory_of(100_000, claimed=claimed)
    started = time.perf_counter()
    problem = refused(acme_client, body)
    assert time.perf_counter() - started < 1
    assert "the limit is 50,000" in problem["detail"] or "more than 50,000 entries" in problem["detail"]


def test_a_hundred_thousand_real_entries_are_refused_fast(acme_client: APIClient) -> None:
    body = zips.packed({f"train/cat/{number}.jpg": b"" for number in range(100_000)})
    assert b"PK\x06\x06" in body  # so many need the 64-bit form of the directory
    started = time.perf_counter()
    problem = refused(acme_client, body)
    assert time.perf_counter() - started < 1
    assert "100,000 entries; the limit is 50,000" in problem["detail"]


def test_as_many_entries_as_the_limit_are_taken(acme_client: APIClient, settings: Settings) -> None:
    settings.DATASET_MAX_ENTRIES = 10
    assert upload(acme_client, create(acme_client, "ten"), zips.packed(zips.good())).status_code == 200
    assert "11 entries; the limit is 10" in refused(acme_client, packed_with("train/cat/x.jpg"))["detail"]


def test_a_directory_of_endless_names_is_refused(acme_client: APIClient, settings: Settings) -> None:
    settings.DATASET_MAX_ENTRIES = 12
    body = zips.packed({f"train/cat/{number}{'x' * 3000}": b"" for number in range(10)})
    assert "names in the zip file take" in refused(acme_client, body)["detail"]


def test_a_bomb_is_refused_by_name(acme_client: APIClient, places: Path) -> None:
    files = zips.good() | {"train/cat/bomb.jpg": bytes(40 * 1024**2)}
    problem = refused(acme_client, zips.packed(files, method=zipfile.ZIP_DEFLATED))
    assert "'train/cat/bomb.jpg' unpacks from" in problem["detail"]
    assert not stored_files(places)


def test_unpacked_bytes_are_counted_and_not_believed(acme_client: APIClient, settings: Settings) -> None:
    settings.DATASET_MAX_UNPACKED_BYTES = 100_000
    body = bytearray(zips.packed(zips.good() | {f"train/cat/b{n}": bytes(30_000) for n in range(4)}, method=8))
    at = -1
    while (at := body.find(b"PK\x01\x02", at + 1)) >= 0:
        body[at + 24 : at + 28] = struct.pack("<L", 2**31)  # claims more than there is
    problem = refused(acme_client, bytes(body))
    assert "unpacks" in problem["detail"]
    problem = refused_again(
        acme_client, zips.packed(zips.good() | {f"train/cat/b{n}": bytes(30_000) for n in range(4)})
    )
    assert "more than 100,000 bytes" in problem["detail"]
    assert "train/cat/b" in problem["detail"]


def refused_again(client: APIClient, body: bytes) -> Any:
    answer = upload(client, create(client, "again"), body)
    assert answer.status_code == 400
    return answer.json()


def test_an_entry_that_claims_fewer_bytes_than_it_has_is_a_bad_file(acme_client: APIClient) -> None:
    body = bytearray(zips.packed(zips.good(), method=8))
    at = body.index(b"PK\x01\x02")
    body[at + 24 : at + 28] = struct.pack("<L", 10)
    dataset = create(acme_client)
    report = upload(acme_client, dataset, bytes(body)).json()["report"]
    assert [p["name"] for p in report["problems"]] == ["train/cat/0.jpg"]
    assert "damaged" in report["problems"][0]["problem"]


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    header = struct.pack(">LLBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(bytes(5001 * 1000)) for _ in range(40)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


BAD = {
    "train/cat/text.jpg": (b"This is a text.", "no JPEG, PNG or WebP"),
    "train/cat/cut.jpg": (zips.picture(900, height=200, width=200)[:2000], "damaged or cut short"),
    "train/dog/huge.png": (huge_png(), "40000 x 40000 = 1,600,000,000 pixels; the limit is 50,000,000"),
    "train/dog/nested.zip": (zips.packed(zips.good()), "no JPEG, PNG or WebP"),
    "train/dog/empty.jpg": (b"", "0 bytes"),
    "validation/cat/моя кошка.jpg": (b"GIF89a", "no JPEG, PNG or WebP"),
    "validation/notes.txt": (b"hello", "outside train/<class>/ and validation/<class>/"),
    "train/cat/more/1.jpg": (zips.picture(901), "outside train/<class>/"),
    "train/" + "x" * 81 + "/1.jpg": (zips.picture(902), "more than 80 characters"),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bad_files_among_good_ones_are_named_and_left_out(acme_client: APIClient, places: Path, method: int) -> None:
    dataset = create(acme_client)
    files = zips.good() | {name: data for name, (data, _) in BAD.items()}
    answer = upload(acme_client, dataset, zips.packed(files, method=method))
    assert answer.status_code == 200, answer.content
    report = answer.json()["report"]
    assert (report["good"], report["bad"]) == (10, len(BAD))
    assert [p["name"] for p in report["problems"]] == sorted(BAD)
    for problem in report["problems"]:
        assert BAD[problem["name"]][1] in problem["problem"]
    assert report["reasons"] == []
    assert answer.json()["items"] == 10
    assert len(stored_files(places)) == 11


def test_an_item_over_its_limit_is_a_bad_file(acme_client: APIClient, settings: Settings) -> None:
    settings.DATASET_MAX_ITEM_BYTES = 10_000
    large = zips.picture(1000, height=200, width=200)
    assert len(large) > 10_000
    dataset = create(acme_client)
    report = upload(acme_client, dataset, zips.packed(zips.good() | {"train/cat/large.jpg": large})).json()["report"]
    assert report["problems"] == [
        {"name": "train/cat/large.jpg", "problem": "It has more than 10,000 bytes, the limit for one item."}
    ]


def test_a_way_of_compression_that_is_not_taken_is_a_bad_file(acme_client: APIClient) -> None:
    body = io.BytesIO(zips.packed(zips.good()))
    with zipfile.ZipFile(body, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("train/cat/lzma.jpg", zips.picture(1000))
    report = upload(acme_client, create(acme_client), body.getvalue()).json()["report"]
    assert [p["name"] for p in report["problems"]] == ["train/cat/lzma.jpg"]
    assert "stored or deflated" in report["problems"][0]["problem"]


def test_damaged_entries_are_bad_files(acme_client: APIClient) -> None:
    body = bytearray(zips.packed(zips.good()))
    body[200] ^= 0xFF  # in the first picture: its checksum no longer fits
    report = upload(acme_client, create(acme_client), bytes(body)).json()["report"]
    assert [p["name"] for p in report["problems"]] == ["train/cat/0.jpg"]
    assert "damaged" in report["problems"][0]["problem"]


def test_bad_files_that_leave_too_few_good_ones_reject_the_upload(acme_client: APIClient, places: Path) -> None:
    files = zips.good() | {"validation/cat/0.jpg": b"text", "validation/cat/1.jpg": b"text"}
    problem = refused(acme_client, zips.packed(files))
    assert "validation has no good pictures of the class 'cat'; expected at least 1." in problem["detail"]
    assert problem["report"]["good"] == 8
    assert [p["name"] for p in problem["report"]["problems"]] == ["validation/cat/0.jpg", "validation/cat/1.jpg"]
    assert not stored_files(places)


def test_only_the_first_hundred_bad_files_are_named(acme_client: APIClient) -> None:
    files = zips.good() | {f"train/cat/bad{number:03}.jpg": b"text" for number in range(130)}
    report = upload(acme_client, create(acme_client), zips.packed(files)).json()["report"]
    assert (report["bad"], len(report["problems"]), report["problems_left_out"]) == (130, 100, 30)


@pytest.mark.parametrize(
    ("files", "folders", "reason"),
    [
        (zips.good(classes=["cat"]), [], "one class only, 'cat'"),
        (zips.good(), ["train/bird/", "validation/bird/"], "train has no good pictures of the class 'bird'"),
        (zips.good(), ["train/bird/"], "validation has no good pictures of the class 'bird'"),
        (
            zips.good() | {"train/bird/1.jpg": zips.picture(99)},
            [],
            "validation has no good pictures of the class 'bird'",
        ),
        (
            zips.good() | {"validation/bird/1.jpg": zips.picture(99)},
            [],
            "train has no good pictures of the class 'bird'",
        ),
        (zips.good(train=1), [], "train has 1 good picture of the class 'cat'; expected at least 2"),
        ({"train/cat/1.jpg": zips.picture(1)}, [], "one class only"),
        (
            {"cat/1.jpg": zips.picture(1), "dog/1.jpg": zips.picture(2)},
            [],
            "train has 1 good picture of the class 'cat'",
        ),
        ({"readme.txt": b"hello"}, [], "no class folders"),
        ({}, [], "no class folders"),
        ({}, ["train/", "validation/"], "no class folders"),
    ],
)
def test_too_little_to_train_on_is_refused_in_words(
    acme_client: APIClient, files: dict[str, bytes], folders: list[str], reason: str
) -> None:
    assert reason in refused(acme_client, zips.packed(files, folders=folders))["detail"]


def test_hundreds_of_reasons_are_cut_short(acme_client: APIClient) -> None:
    files = {f"train/class {number}/1.jpg": b"text" for number in range(300)}
    problem = refused(acme_client, zips.packed(files))
    assert len(problem["report"]["reasons"]) == 10
    assert "And 590 more reasons." in problem["detail"]


def test_one_folder_may_wrap_the_splits(acme_client: APIClient) -> None:
    files = {f"my pets/{name}": data for name, data in zips.good().items()}
    row = upload(acme_client, create(acme_client), zips.packed(files, folders=["my pets/", "my pets/train/"])).json()
    assert (row["state"], row["items"], row["report"]["bad"]) == ("checked", 10, 0)


def test_what_operating_systems_leave_in_zips_is_ignored(acme_client: APIClient) -> None:
    noise = ["__MACOSX/train/cat/._0.jpg", ".DS_Store", "train/.DS_Store", "train/cat/Thumbs.db"]
    body = zips.packed(zips.good() | dict.fromkeys(noise, b"noise"), folders=["train/", "train/cat/", "__MACOSX/"])
    report = upload(acme_client, create(acme_client), body).json()["report"]
    assert (report["good"], report["bad"]) == (10, 0)


def test_names_in_any_script_are_kept(acme: Account, acme_client: APIClient) -> None:
    files = zips.good(classes=["кошка", "犬"])
    row = upload(acme_client, create(acme_client), zips.packed(files)).json()
    assert row["classes"] == sorted(["кошка", "犬"])
    with scoping.tenant(acme.tenant.pk):
        manifest = datasets.load_manifest(datasets.get(tenant=acme.tenant, dataset_id=row["id"]))
    assert {item.name for item in manifest.items} == set(files)


def test_names_in_the_old_code_page_are_kept(acme_client: APIClient) -> None:
    body = zips.packed(zips.good(classes=["cat", "d_g"])).replace(b"/d_g/", b"/d\x94g/")  # ö in code page 437
    assert upload(acme_client, create(acme_client), body).json()["classes"] == ["cat", "dög"]


def test_a_name_that_claims_to_be_utf8_and_is_not_refuses_the_file(acme_client: APIClient) -> None:
    body = zips.packed(zips.good(classes=["cat", "dög"])).replace("ö".encode(), b"\xff\xff")
    assert "not a zip file that can be read: 'utf-8' codec" in refused(acme_client, body)["detail"]


def test_the_same_picture_in_both_splits_is_a_warning(acme_client: APIClient) -> None:
    files = zips.good()
    files["validation/cat/leak.jpg"] = files["train/cat/1.jpg"]
    report = upload(acme_client, create(acme_client), zips.packed(files)).json()["report"]
    [warning] = report["warnings"]
    assert warning["kind"] == "duplicates-across-splits"
    assert "'train/cat/1.jpg' and 'validation/cat/leak.jpg'" in warning["detail"]


def test_a_rare_class_is_a_warning(acme_client: APIClient) -> None:
    body = zips.packed(zips.good(train=2) | {f"train/cat/more{n}.jpg": zips.picture(500 + n) for n in range(19)})
    report = upload(acme_client, create(acme_client), body).json()["report"]
    [warning] = report["warnings"]
    assert warning["kind"] == "class-imbalance"
    assert "21 pictures of 'cat' and 2 of 'dog'" in warning["detail"]
    body = zips.packed(zips.good(train=2) | {f"train/cat/more{n}.jpg": zips.picture(500 + n) for n in range(18)})
    assert upload(acme_client, create(acme_client, "ten to one"), body).json()["report"]["warnings"] == []


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_zip_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    body = bytearray(zips.packed(zips.good(), folders=["train/", "train/cat/"], method=8))
    for _ in range(data.draw(st.integers(1, 6))):
        # Mostly in the directory, which lies at the end.
        place = data.draw(st.one_of(st.integers(len(body) - 900, len(body) - 1), st.integers(0, len(body) - 1)))
        body[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(body[: data.draw(st.sampled_from([None, -1, -30, 200]))])
    limits = archives.Limits(entries=100, item_bytes=10_000, unpacked_bytes=50_000)
    try:
        with archives.Archive(path, limits=limits) as archive:
            for entry in archive.entries:
                try:
                    assert len(archive.read(entry)) <= limits.item_bytes
                except archives.Unreadable:
                    continue
    except archives.Unsafe:
        return


@pytest.mark.skipif(not CATS_AND_DOGS.is_dir(), reason="needs ../shared/data/cats_and_dogs beside the project")
def test_real_photographs_are_taken(acme_client: APIClient) -> None:
    files = {}
    for split, count in (("train", 40), ("validation", 10)):
        for name in ("cat", "dog"):
            for path in sorted((CATS_AND_DOGS / split / name).iterdir())[:count]:
                files[f"pets/{split}/{name}/{path.name}"] = path.read_bytes()
    dataset = create(acme_client)
    row = upload(acme_client, dataset, zips.packed(files)).json()
    assert (row["state"], row["items"], row["report"]["bad"]) == ("checked", 100, 0)
    assert row["report"]["splits"] == {"train": {"cat": 40, "dog": 40}, "validation": {"cat": 10, "dog": 10}}
