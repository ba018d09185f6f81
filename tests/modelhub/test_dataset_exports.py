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
from tests.modelhub import zips
from tests.modelhub.calls import DATASETS, audited, create, derived, filled, sealed, shown, upload
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
