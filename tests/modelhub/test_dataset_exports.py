"""A data set back as an archive, which gives the same manifest when it is uploaded again."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from modelhub.models import Dataset
from tenants import scoping
from tests.conftest import Account
from tests.modelhub import recordings, zips
from tests.modelhub.calls import (
    DATASETS,
    audited,
    create,
    derived,
    filled,
    lines,
    sealed,
    shown,
    upload,
    uploaded,
)
from tests.modelhub.places import places, stored_files

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")


def export(client: APIClient, dataset: str) -> bytes:
    answer = client.get(f"{DATASETS}/{dataset}/export")
    assert answer.status_code == 200, answer.content
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{dataset}.zip"'
    return bytes(answer.getvalue())


def test_what_was_uploaded_comes_back(acme_client: APIClient) -> None:
    files = zips.good()
    with zips.opened(export(acme_client, sealed(acme_client))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_an_export_that_is_uploaded_gives_the_same_manifest(acme_client: APIClient, globex_client: APIClient) -> None:
    first = sealed(acme_client)
    version = derived(acme_client, first, remove=["train/cat/0.jpg"])
    upload(acme_client, version, zips.packed({"train/dog/ж.jpg": zips.picture(80)}), QUERY_STRING="mode=add")
    assert shown(acme_client, version)["items"] == 10
    for dataset in (first, version):
        body = export(acme_client, dataset)
        for client in (acme_client, globex_client):
            copy = create(client, f"copy of {dataset}")
            answer = upload(client, copy, body)
            assert answer.status_code == 200, answer.content
            assert answer.json()["manifest_sha256"] == shown(acme_client, dataset)["manifest_sha256"]
            assert answer.json()["report"]["bad"] == 0


def test_the_same_content_gives_the_same_archive(acme_client: APIClient) -> None:
    one, other = filled(acme_client), filled(acme_client, "other")
    assert export(acme_client, one) == export(acme_client, other)


def test_it_is_sent_while_it_is_written(acme_client: APIClient) -> None:
    files = zips.good() | {"train/cat/heavy.jpg": zips.heavy_picture(90, size=3_000_000)}
    dataset = create(acme_client)
    assert upload(acme_client, dataset, zips.packed(files)).status_code == 200
    answer: Any = acme_client.get(f"{DATASETS}/{dataset}/export")
    pieces: Iterator[bytes] = answer.streaming_content
    sizes = [len(piece) for piece in pieces]
    assert max(sizes) < 1_000_000
    assert len(sizes) > 5
    assert sum(sizes) > 3_000_000


def test_a_file_that_is_gone_ends_the_export_before_its_end(acme_client: APIClient, places: Path) -> None:
    dataset = filled(acme_client)
    answer: Any = acme_client.get(f"{DATASETS}/{dataset}/export")
    lost = sorted(stored_files(places) - {shown(acme_client, dataset)["manifest_sha256"]})[0]
    next(file for file in (places / "files").rglob(lost)).unlink()
    body = io.BytesIO()
    with pytest.raises(FileNotFoundError):
        body.writelines(answer.streaming_content)
    assert not zipfile.is_zipfile(body), "nobody takes what came for a whole"


@pytest.mark.parametrize("state", ["created", "rejected", "erased"])
def test_there_must_be_content(acme: Account, acme_client: APIClient, state: str) -> None:
    dataset = create(acme_client)
    with scoping.tenant(acme.tenant.pk):
        rows = Dataset.objects.for_tenant(acme.tenant)
        rows.update(state=state, **({"erased_at": "2026-01-01T00:00:00Z"} if state == "erased" else {}))
    answer = acme_client.get(f"{DATASETS}/{dataset}/export")
    assert answer.status_code == 409
    assert ("erased at 2026-01-01" if state == "erased" else state) in answer.json()["detail"]


def test_whoever_takes_data_out_is_written_down(acme: Account, acme_client: APIClient) -> None:
    export(acme_client, filled(acme_client))
    assert audited(acme)[-1] == "dataset.export"


# --- other kinds ------------------------------------------------------------------------------------------------------


def again(client: APIClient, row: Any, **options: Any) -> Any:
    """The data set that is made of another's export."""
    assert row["state"] == "checked", row["report"]
    found = uploaded(client, row["kind"], export(client, row["id"]), name=f"again {row['id']}", **options)
    assert found["report"]["bad"] == 0, found["report"]
    return found


def test_what_folders_do_not_say_of_pictures_is_in_a_list(acme_client: APIClient) -> None:
    files = {f"{name}/{n}.jpg": zips.picture(10 * n + len(name)) for name in ("cat", "mouse") for n in range(12)}
    row = uploaded(acme_client, "image-classification", zips.packed(files))
    with zips.opened(export(acme_client, row["id"])) as archive:
        assert set(archive.namelist()) == {*files, "labels.csv"}
    assert again(acme_client, row)["manifest_sha256"] == row["manifest_sha256"]


def test_recordings_come_back_with_their_transcripts(acme_client: APIClient) -> None:
    row = uploaded(acme_client, "speech", zips.packed(recordings.good()))
    assert again(acme_client, row)["manifest_sha256"] == row["manifest_sha256"]


TEXTS = "text,label,group\n" + "".join(
    f'"text {n}, with ""quotes""\nand lines",{"ab"[n % 2]},g{n % 5}\n' for n in range(40)
)
PAIRS = "".join(f"one {n}\tuno {n}\n" for n in range(40))
TABLE = "size,kind,name,good\n" + "".join(f"{n}.5,{'xyz'[n % 3]},=SUM({n}),{n % 2 == 0}\n" for n in range(40))


@pytest.mark.parametrize(
    ("kind", "body", "content_type"),
    [
        ("text-classification", TEXTS, "text/csv"),
        ("translation", PAIRS, "text/tab-separated-values"),
        ("table", TABLE, "text/csv"),
    ],
)
def test_rows_come_back_in_their_splits(
    acme: Account, acme_client: APIClient, kind: str, body: str, content_type: str
) -> None:
    row = uploaded(acme_client, kind, body.encode(), content_type)
    with zips.opened(export(acme_client, row["id"])) as archive:
        assert archive.namelist() == ["train.jsonl", "validation.jsonl"]
    copy = again(acme_client, row)
    for split in ("train", "validation"):
        one, other = (
            [{k: v for k, v in line.items() if k != "name"} for line in lines(acme, each, split)]
            for each in (row, copy)
        )
        assert one == other
        assert one
    assert (copy["items"], copy["report"]["splits"]) == (40, row["report"]["splits"])
    assert copy["report"]["content"] == row["report"]["content"]
    assert again(acme_client, copy)["manifest_sha256"] == copy["manifest_sha256"], "the names of rows have settled"


def test_rows_are_added_and_left_out_in_versions(acme: Account, acme_client: APIClient) -> None:
    row = uploaded(acme_client, "text-classification", TEXTS.encode(), "text/csv")
    acme_client.post(f"{DATASETS}/{row['id']}/seal")
    gone = [line["name"] for line in lines(acme, row, "train")[:3]]
    version = derived(acme_client, row["id"], remove=gone)
    more = b"text,label\nmore,a\nmost,b\nless,a\nleast,b\n"
    answer = upload(acme_client, version, more, "text/csv", QUERY_STRING="mode=add")
    assert answer.status_code == 200, answer.content
    assert answer.json()["items"] == 41
    texts = [line["text"] for split in ("train", "validation") for line in lines(acme, answer.json(), split)]
    assert {"more", "most", "less", "least"} < set(texts)
    assert not {line["text"] for line in lines(acme, row, "train")[:3]} & set(texts)
    assert acme_client.post(f"{DATASETS}/{version}/seal").status_code == 200


def test_a_bare_file_of_rows_comes_in_parts(acme_client: APIClient) -> None:
    whole = uploaded(acme_client, "table", TABLE.encode(), "text/csv")
    dataset = create(acme_client, "parts", "table")
    body = {"length": len(TABLE), "media_type": "text/csv"}
    made = acme_client.post(f"{DATASETS}/{dataset}/uploads", body, format="json")
    assert made.status_code == 201, made.content
    path = f"{DATASETS}/{dataset}/uploads/{made.json()['id']}"
    for number, part in enumerate((TABLE[:100], TABLE[100:]), 1):
        acme_client.put(f"{path}/parts/{number}", part.encode(), content_type="application/octet-stream")
    answer = acme_client.post(f"{path}/complete")
    assert answer.status_code == 200, answer.content
    assert answer.json()["manifest_sha256"] == whole["manifest_sha256"]
