"""Uploads in parts over HTTP: in any order, again, replaced, wrong, expired, aborted; nothing half-made stays."""

import base64
import io
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub.datasets import parts, uploads
from modelhub.models import DatasetUpload, DatasetUploadPart
from tenants import scoping
from tenants.models import Plan
from tests.conftest import Account
from tests.modelhub import zips
from tests.modelhub.calls import (
    DATASETS,
    audited,
    create,
    derived,
    filled,
    live_digests,
    sealed,
    shown,
    upload,
)
from tests.modelhub.places import places, scratch_files, stored_files

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

Capture = Callable[..., Any]
BODY = zips.packed(zips.good())
THIRD = len(BODY) // 3
PARTS = {1: BODY[:THIRD], 2: BODY[THIRD : 2 * THIRD], 3: BODY[2 * THIRD :]}


def ask_to_begin(client: APIClient, dataset: str, **body: Any) -> Any:
    wanted = {"length": len(BODY), "media_type": "application/zip"} | body
    return client.post(f"{DATASETS}/{dataset}/uploads", wanted, format="json")


def begin(client: APIClient, dataset: str, **body: Any) -> str:
    """The path of a new upload in parts."""
    answer = ask_to_begin(client, dataset, **body)
    assert answer.status_code == 201, answer.content
    return f"{DATASETS}/{dataset}/uploads/{answer.json()['id']}"


def send(client: APIClient, path: str, number: int, body: bytes | None = None, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = PARTS[number] if body is None else body
    return client.put(
        f"{path}/parts/{number}", content, content_type="application/octet-stream", headers=named
    )  # fmt: skip


def complete(client: APIClient, path: str) -> Any:
    return client.post(f"{path}/complete")


def there(client: APIClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_parts_come_in_any_order_and_make_the_content(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    whole = create(acme_client, "whole")
    upload(acme_client, whole, BODY)
    dataset = create(acme_client)
    path = begin(acme_client, dataset, sha256=sha256(BODY).hexdigest())
    for number in (3, 1, 2):
        answer = send(acme_client, path, number)
        assert answer.status_code == 200, answer.content
        assert answer.json()["sha256"] == sha256(PARTS[number]).hexdigest()
    row = there(acme_client, path)
    assert [(part["number"], part["size"]) for part in row["parts"]] == [(n, len(PARTS[n])) for n in (1, 2, 3)]
    assert (row["state"], row["received"], row["length"], row["mode"]) == ("open", len(BODY), len(BODY), "replace")
    assert shown(acme_client, dataset)["state"] == "created"
    with django_capture_on_commit_callbacks(execute=True):
        answer = complete(acme_client, path)
    assert answer.status_code == 200, answer.content
    assert answer.json() == shown(acme_client, dataset)
    assert answer.json()["state"] == "checked"
    assert answer.json()["manifest_sha256"] == shown(acme_client, whole)["manifest_sha256"]
    row = there(acme_client, path)
    assert (row["state"], row["parts"], row["received"]) == ("completed", [], 0)
    assert row["ended_at"].endswith("Z")
    assert not scratch_files(places)
    assert stored_files(places) == live_digests(acme)
    assert audited(acme)[-2:] == ["dataset.begin_upload", "dataset.upload"]


def test_completing_twice_changes_nothing(acme: Account, acme_client: APIClient) -> None:
    dataset = create(acme_client)
    path = begin(acme_client, dataset)
    for number in PARTS:
        send(acme_client, path, number)
    first, second = complete(acme_client, path), complete(acme_client, path)
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert audited(acme).count("dataset.upload") == 1
    assert send(acme_client, path, 1).status_code == 409


def test_the_same_part_again_is_fine_and_another_replaces_it(acme_client: APIClient, places: Path) -> None:
    path = begin(acme_client, create(acme_client))
    send(acme_client, path, 1)
    again = send(acme_client, path, 1)
    assert again.status_code == 200
    assert there(acme_client, path)["received"] == len(PARTS[1])
    send(acme_client, path, 2, b"x" * len(PARTS[2]))
    answer = send(acme_client, path, 2)
    assert answer.json()["sha256"] == sha256(PARTS[2]).hexdigest()
    send(acme_client, path, 3)
    assert there(acme_client, path)["received"] == len(BODY)
    assert complete(acme_client, path).status_code == 200


def test_a_part_that_is_replaced_leaves_no_file(
    acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    path = begin(acme_client, create(acme_client))
    with django_capture_on_commit_callbacks(execute=True):
        send(acme_client, path, 1, b"other")
        send(acme_client, path, 1)
        send(acme_client, path, 1)
    assert [file.read_bytes() for file in scratch_files(places)] == [PARTS[1]]


def test_a_zip_file_of_these_tests_is_the_same_at_another_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or two workers that collect them name the tests below differently, and no test runs at all."""
    monkeypatch.setattr("zipfile.time.time", lambda: 1e9)
    assert zips.packed(zips.good()) == BODY


def in_base64(body: bytes) -> str:
    return base64.b64encode(sha256(body).digest()).decode()


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"X_Checksum_Sha256": sha256(PARTS[1]).hexdigest()}, 200, ""),
        ({"X_Checksum_Sha256": sha256(PARTS[1]).hexdigest().upper()}, 200, ""),
        ({"Content_Digest": f"sha-256=:{in_base64(PARTS[1])}:"}, 200, ""),
        ({"Content_Digest": f"sha-512=:AAAA:, sha-256=:{in_base64(PARTS[1])}:"}, 200, ""),
        ({"X_Checksum_Sha256": sha256(b"other").hexdigest()}, 400, sha256(b"other").hexdigest()),
        ({"Content_Digest": f"sha-256=:{in_base64(b'other')}:"}, 400, sha256(PARTS[1]).hexdigest()),
        ({"X_Checksum_Sha256": "abc"}, 400, "64 hex digits"),
        ({"Content_Digest": "sha-256=abc"}, 400, "32 bytes in base64"),
        ({"Content_Digest": "sha-256=:!!!!:"}, 400, "32 bytes in base64"),
        ({"Content_Digest": "sha-256=:AAAA:"}, 400, "32 bytes in base64"),
        (
            {"Content_Digest": f"sha-256=:{in_base64(b'a')}:", "X_Checksum_Sha256": sha256(b"b").hexdigest()},
            400,
            "different things",
        ),
    ],
)
def test_a_checksum_that_is_sent_is_checked(
    acme_client: APIClient, places: Path, headers: dict[str, str], status: int, said: str
) -> None:
    path = begin(acme_client, create(acme_client))
    answer = send(acme_client, path, 1, PARTS[1], **headers)
    assert answer.status_code == status, answer.content
    assert said in answer.content.decode()
    assert len(there(acme_client, path)["parts"]) == len(scratch_files(places)) == (status == 200)


def test_a_part_that_was_cut_leaves_the_one_before(acme_client: APIClient, places: Path) -> None:
    path = begin(acme_client, create(acme_client))
    send(acme_client, path, 1)
    before = there(acme_client, path)
    extra: dict[str, Any] = {"wsgi.input": io.BytesIO(b"cut"), "CONTENT_LENGTH": "100"}
    answer = acme_client.put(f"{path}/parts/1", b"", content_type="application/octet-stream", **extra)
    assert answer.status_code == 400
    assert "3 of 100 bytes" in answer.json()["detail"]
    assert there(acme_client, path) == before
    assert [file.read_bytes() for file in scratch_files(places)] == [PARTS[1]]


def test_a_part_has_a_length_within_the_limits(acme_client: APIClient, settings: Settings) -> None:
    path = begin(acme_client, create(acme_client))
    empty: dict[str, Any] = {"wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
    answer = acme_client.put(f"{path}/parts/1", b"", content_type="application/octet-stream", **empty)
    assert answer.status_code == 400
    answer = acme_client.put(f"{path}/parts/1", b"x", content_type="application/octet-stream", CONTENT_LENGTH="")
    assert answer.status_code == 411
    assert send(acme_client, path, 1, BODY + b"x").status_code == 413, "more than was announced"
    send(acme_client, path, 1)
    answer = send(acme_client, path, 2, BODY)
    assert answer.status_code == 413
    assert f"{len(BODY):,} are announced" in answer.json()["detail"]
    settings.DATASET_MAX_PART_BYTES = 10
    assert send(acme_client, path, 2).status_code == 413
    for number in (0, 10_001):
        assert send(acme_client, path, number, b"x").status_code == 400
    assert [part["number"] for part in there(acme_client, path)["parts"]] == [1]


def test_only_a_whole_file_is_completed(acme_client: APIClient, places: Path) -> None:
    dataset = create(acme_client)
    path = begin(acme_client, dataset)
    answer = complete(acme_client, path)
    assert answer.status_code == 409
    assert f"0 of {len(BODY):,} bytes" in answer.json()["detail"]
    send(acme_client, path, 3)
    answer = complete(acme_client, path)
    assert answer.status_code == 409
    assert "The parts 1, 2 are missing" in answer.json()["detail"]
    send(acme_client, path, 1)
    send(acme_client, path, 2, b"short")
    assert complete(acme_client, path).status_code == 409
    send(acme_client, path, 2)
    next(file for file in scratch_files(places) if file.name.startswith("00002")).unlink()
    answer = complete(acme_client, path)
    assert answer.status_code == 409
    assert "The part 2 is not on this server's disk" in answer.json()["detail"]
    assert shown(acme_client, dataset)["state"] == "created"
    send(acme_client, path, 2)
    assert complete(acme_client, path).status_code == 200


def test_the_whole_must_have_the_sha256_that_was_announced(acme_client: APIClient) -> None:
    dataset = filled(acme_client)
    before = shown(acme_client, dataset)
    path = begin(acme_client, dataset, sha256=sha256(BODY).hexdigest())
    for number in PARTS:
        send(acme_client, path, number)
    send(acme_client, path, 2, b"x" * len(PARTS[2]))
    answer = complete(acme_client, path)
    assert answer.status_code == 400
    assert sha256(BODY).hexdigest() in answer.json()["detail"]
    assert shown(acme_client, dataset) == before
    send(acme_client, path, 2)
    assert complete(acme_client, path).status_code == 200, "it stayed open"


def test_a_part_that_rotted_on_the_disk_is_found(acme_client: APIClient, places: Path) -> None:
    dataset = create(acme_client)
    path = begin(acme_client, dataset)
    for number in PARTS:
        send(acme_client, path, number)
    rotten = next(file for file in scratch_files(places) if file.name.startswith("00002"))
    rotten.write_bytes(b"x" * len(PARTS[2]))
    assert complete(acme_client, path).status_code == 503
    assert shown(acme_client, dataset)["state"] == "created"
    send(acme_client, path, 2)
    assert complete(acme_client, path).status_code == 200


def test_a_file_that_cannot_be_used_ends_its_upload(
    acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = create(acme_client)
    path = begin(acme_client, dataset, length=6)
    send(acme_client, path, 1, b"no zip")
    with django_capture_on_commit_callbacks(execute=True):
        answer = complete(acme_client, path)
    assert answer.status_code == 400
    assert answer.json()["report"]["reasons"]
    assert shown(acme_client, dataset)["state"] == "rejected"
    assert there(acme_client, path)["state"] == "rejected"
    assert complete(acme_client, path).status_code == 409
    assert not scratch_files(places)


def test_parts_are_added_to_a_version(acme_client: APIClient) -> None:
    version = derived(acme_client, sealed(acme_client))
    body = zips.packed({"train/cat/new.jpg": zips.picture(70)})
    path = begin(acme_client, version, length=len(body), mode="add")
    send(acme_client, path, 1, body)
    assert complete(acme_client, path).json()["items"] == 11


def test_a_sealed_data_set_takes_no_parts(acme_client: APIClient, places: Path) -> None:
    dataset = filled(acme_client)
    path = begin(acme_client, dataset)
    for number in PARTS:
        send(acme_client, path, number)
    acme_client.post(f"{DATASETS}/{dataset}/seal")
    before = shown(acme_client, dataset)
    answer = complete(acme_client, path)
    assert answer.status_code == 409
    assert "new version" in answer.json()["detail"]
    assert ask_to_begin(acme_client, dataset).status_code == 409
    assert shown(acme_client, dataset) == before
    assert acme_client.delete(path).status_code == 204


def test_a_check_that_is_under_way_is_not_begun_twice(acme: Account, acme_client: APIClient) -> None:
    path = begin(acme_client, create(acme_client))
    for number in PARTS:
        send(acme_client, path, number)
    with scoping.tenant(acme.tenant.pk):
        rows = DatasetUpload.objects.for_tenant(acme.tenant)
        rows.update(checked_until=timezone.now() + uploads.CHECK_LEASE)
    for answer in (complete(acme_client, path), send(acme_client, path, 1), acme_client.delete(path)):
        assert answer.status_code == 409
        assert "is being checked" in answer.json()["detail"]
    with scoping.tenant(acme.tenant.pk):
        rows.update(checked_until=timezone.now() - timedelta(seconds=1))
    assert complete(acme_client, path).status_code == 200, "whoever checked it is gone"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"length": 0}, "length"),
        ({"length": "many"}, "length"),
        ({"sha256": "abc"}, "sha256"),
        ({"sha256": "a" * 65}, "sha256"),
        ({"mode": "merge"}, "mode"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_field_that_is_wrong_is_named(acme_client: APIClient, body: dict[str, Any], field: str) -> None:
    dataset = create(acme_client)
    answer = ask_to_begin(acme_client, dataset, **body)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_what_is_too_large_or_of_another_type_is_refused_at_once(acme_client: APIClient, settings: Settings) -> None:
    dataset = create(acme_client)
    assert ask_to_begin(acme_client, dataset, media_type="text/plain").status_code == 415
    settings.DATASET_MAX_PARTED_BYTES = len(BODY) - 1
    assert ask_to_begin(acme_client, dataset).status_code == 413


def test_what_a_tenants_open_uploads_may_take_is_bounded(
    acme_client: APIClient, globex_client: APIClient, settings: Settings
) -> None:
    settings.DATASET_MAX_OPEN_UPLOAD_BYTES = 2 * len(BODY)
    dataset = create(acme_client)
    first, _ = begin(acme_client, dataset), begin(acme_client, dataset)
    answer = ask_to_begin(acme_client, dataset)
    assert answer.status_code == 429
    assert f"{2 * len(BODY):,}" in answer.json()["detail"]
    begin(globex_client, create(globex_client))
    assert acme_client.delete(first).status_code == 204
    begin(acme_client, dataset)


def test_a_plan_without_room_leaves_the_upload_open(acme: Account, acme_client: APIClient) -> None:
    dataset = create(acme_client)
    path = begin(acme_client, dataset)
    for number in PARTS:
        send(acme_client, path, number)
    with scoping.operator():
        Plan.objects.filter(pk="standard").update(stored_bytes=1000)
    assert complete(acme_client, path).status_code == 429
    assert shown(acme_client, dataset)["state"] == "created"
    with scoping.operator():
        Plan.objects.filter(pk="standard").update(stored_bytes=None)
    assert complete(acme_client, path).status_code == 200


def test_an_aborted_upload_leaves_nothing(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = create(acme_client)
    path = begin(acme_client, dataset)
    send(acme_client, path, 1)
    with django_capture_on_commit_callbacks(execute=True):
        assert acme_client.delete(path).status_code == 204
    assert (there(acme_client, path)["state"], there(acme_client, path)["parts"]) == ("aborted", [])
    assert not scratch_files(places)
    assert acme_client.delete(path).status_code == 204
    assert audited(acme).count("dataset.abort_upload") == 1
    for answer in (send(acme_client, path, 1), complete(acme_client, path)):
        assert answer.status_code == 409
        assert "aborted" in answer.json()["detail"]


def test_an_upload_that_nobody_goes_on_with_expires(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = create(acme_client)
    old, recent = begin(acme_client, dataset), begin(acme_client, dataset)
    for path in (old, recent):
        send(acme_client, path, 1)
    with scoping.tenant(acme.tenant.pk):
        rows = DatasetUpload.objects.for_tenant(acme.tenant).filter(pk=old.rpartition("/")[2])
        rows.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert send(acme_client, old, 2).status_code == 409
    with django_capture_on_commit_callbacks(execute=True):
        assert parts.expire(now=timezone.now()) == 1
    assert there(acme_client, old)["state"] == "expired"
    assert there(acme_client, recent)["state"] == "open"
    assert [file.parent.name for file in scratch_files(places)] == [recent.rpartition("/")[2]]
    with scoping.operator():
        assert DatasetUploadPart.across_tenants.count() == 1
    assert audited(acme).count("dataset.expire_upload") == 1
    call_command("erase_expired_datasets")
    assert parts.expire(now=timezone.now() + timedelta(days=2)) == 1, "each part gives it a new day"


def test_parts_go_with_their_data_set(
    acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = create(acme_client)
    path = begin(acme_client, dataset)
    send(acme_client, path, 1)
    with django_capture_on_commit_callbacks(execute=True):
        assert acme_client.delete(f"{DATASETS}/{dataset}").status_code == 204
    assert acme_client.get(path).status_code == 404
    assert not scratch_files(places)


def test_an_upload_is_found_under_its_own_data_set_only(acme_client: APIClient) -> None:
    one, other = create(acme_client), create(acme_client, "other")
    path = begin(acme_client, one)
    assert acme_client.get(path.replace(one, other)).status_code == 404
    assert [row["id"] for row in acme_client.get(f"{DATASETS}/{one}/uploads").json()["results"]] == [
        path.split("/")[-1]
    ]
    assert acme_client.get(f"{DATASETS}/{other}/uploads").json()["results"] == []


def test_a_retry_with_the_same_idempotency_key_begins_one_upload(acme_client: APIClient) -> None:
    dataset = create(acme_client)
    body = {"length": 10, "media_type": "application/zip"}
    first, second = (
        acme_client.post(f"{DATASETS}/{dataset}/uploads", body, format="json", headers={"Idempotency-Key": "abc"})
        for _ in range(2)
    )
    assert first.json() == second.json()
    assert len(acme_client.get(f"{DATASETS}/{dataset}/uploads").json()["results"]) == 1


def test_the_operator_sees_uploads_and_their_parts(acme_client: APIClient, admin_client: Client) -> None:
    dataset = create(acme_client)
    path = begin(acme_client, dataset)
    send(acme_client, path, 1)
    for page, found in (
        ("/admin/modelhub/datasetupload/?q=acme", 1),
        (f"/admin/modelhub/datasetupload/?dataset__id__exact={dataset}", 1),
        (f"/admin/modelhub/datasetuploadpart/?upload__id__exact={path.rpartition('/')[2]}", 1),
    ):
        answer = admin_client.get(page)
        assert answer.status_code == 200, page
        assert answer.context["cl"].result_count == found, page
    assert "its uploads" in admin_client.get("/admin/modelhub/dataset/").content.decode()
    assert admin_client.get(f"/admin/modelhub/datasetupload/{path.rpartition('/')[2]}/change/").status_code == 200
