"""Uploads over HTTP: streamed, cut, overtaken, replaced, without room; nothing half-made stays."""

import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub import datasets, pictures, storage
from modelhub.datasets import uploads
from modelhub.models import BlobUse, Dataset
from tenants import scoping
from tenants.models import Plan
from tests.conftest import Account
from tests.modelhub import zips
from tests.modelhub.calls import DATASETS, audited, create, filled, live_digests, shown, stream, upload
from tests.modelhub.places import places, scratch_files, stored_files
from tests.threads import in_threads

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

Capture = Callable[..., Any]


def test_an_upload_is_checked_and_reported(acme: Account, acme_client: APIClient, places: Path) -> None:
    dataset = create(acme_client)
    files = zips.good()
    answer = upload(acme_client, dataset, zips.packed(files))
    assert answer.status_code == 200
    row = answer.json()
    assert row == shown(acme_client, dataset)
    assert row["state"] == "checked"
    assert row["items"] == 10
    assert row["size"] == sum(map(len, files.values()))
    assert row["classes"] == ["cat", "dog"]
    assert row["progress"] == {}
    report = row["report"]
    assert report.pop("content")["resolutions"] == [{"width": 16, "height": 12, "pictures": 10}]
    assert {kind: found["contents"] for kind, found in report.pop("duplicates").items()} == {"exact": 0, "near": 0}
    assert report == {
        "splits": {"train": {"cat": 3, "dog": 3}, "validation": {"cat": 2, "dog": 2}},
        "counts": {"train": 6, "validation": 4},
        "split": {"by": "given", "validation": 0.1, "seed": 0, "column": ""},
        "good": 10,
        "bad": 0,
        "problems": [],
        "problems_left_out": 0,
        "warnings": [],
        "reasons": [],
    }
    assert audited(acme) == ["dataset.create", "dataset.upload"]
    assert not scratch_files(places)
    assert stored_files(places) == live_digests(acme)


def test_the_manifest_names_every_picture(acme: Account, acme_client: APIClient) -> None:
    files = zips.good()
    dataset = filled(acme_client)
    with scoping.tenant(acme.tenant.pk):
        row = datasets.get(tenant=acme.tenant, dataset_id=dataset)
        manifest = datasets.load_manifest(row)
        assert manifest.classes == ("cat", "dog")
        assert [item.name for item in manifest.items] == sorted(files)
        assert len(manifest.of("train")) == 6
        for item in manifest.items:
            assert item.name.startswith(f"{item.split}/{item.target}/")
            assert (item.facts["height"], item.facts["width"]) == (12, 16)
            assert storage.read(tenant_id=acme.tenant.pk, sha256=item.sha256) == files[item.name]
            assert item.size == len(files[item.name])
        document = json.loads(storage.read(tenant_id=acme.tenant.pk, sha256=row.manifest_sha256))
    assert document["format"] == 2
    assert document["kind"] == "image-classification"
    assert document["classes"] == ["cat", "dog"]
    assert set(document["items"][0]) == {"split", "name", "sha256", "size", "target", "group", "facts"}


def test_the_same_pictures_have_the_same_manifest_in_any_order(acme_client: APIClient) -> None:
    files = zips.good()
    digests = []
    for name, order in (("a", list(files)), ("b", list(reversed(files)))):
        dataset = create(acme_client, name)
        body = zips.packed({f"wrapped/{path}": files[path] for path in order} if name == "b" else files)
        digests.append(upload(acme_client, dataset, body).json()["manifest_sha256"])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("content_type", ["application/zip", "application/octet-stream", "application/zip; x=y"])
def test_these_content_types_are_taken(acme_client: APIClient, content_type: str) -> None:
    dataset = create(acme_client)
    assert upload(acme_client, dataset, zips.packed(zips.good()), content_type).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "image/jpeg"])
def test_another_content_type_is_refused(acme_client: APIClient, content_type: str) -> None:
    dataset = create(acme_client)
    answer = upload(acme_client, dataset, zips.packed(zips.good()), content_type)
    assert answer.status_code == 415
    assert "application/zip" in answer.json()["detail"]
    assert shown(acme_client, dataset)["state"] == "created"


def test_a_body_without_a_content_type_is_refused(acme_client: APIClient) -> None:
    dataset = create(acme_client)
    answer = acme_client.generic("PUT", f"{DATASETS}/{dataset}/content", "PK", content_type="")
    assert answer.status_code == 415
    assert "missing" in answer.json()["detail"]


def test_a_body_over_the_limit_is_refused_before_it_is_read(acme_client: APIClient, settings: Settings) -> None:
    settings.DATASET_MAX_UPLOAD_BYTES = 1000
    dataset = create(acme_client)

    class NeverRead(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError("it was read")

    answer = stream(acme_client, dataset, NeverRead(), 1001)
    assert answer.status_code == 413
    assert "1,001 bytes; the limit for a data set is 1,000" in answer.json()["detail"]
    assert shown(acme_client, dataset)["state"] == "created"


def test_a_body_without_a_length_is_refused(acme_client: APIClient) -> None:
    dataset = create(acme_client)
    answer = upload(acme_client, dataset, b"PK", CONTENT_LENGTH="")
    assert answer.status_code == 411
    assert "Content-Length" in answer.json()["detail"]


def test_an_empty_body_is_refused(acme_client: APIClient) -> None:
    dataset = create(acme_client)
    assert stream(acme_client, dataset, io.BytesIO(), 0).status_code == 400
    assert shown(acme_client, dataset)["state"] == "created"


class Breaking(io.BytesIO):
    """A body whose sender goes away."""

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        if not chunk:
            raise OSError("connection reset by peer")
        return chunk


@pytest.mark.parametrize("body_type", [io.BytesIO, Breaking])
@pytest.mark.parametrize("before", ["created", "checked", "rejected"])
def test_a_body_that_was_cut_changes_nothing(
    acme: Account, acme_client: APIClient, places: Path, before: str, body_type: Any
) -> None:
    dataset = create(acme_client)
    if before != "created":
        upload(acme_client, dataset, zips.packed(zips.good()) if before == "checked" else b"no zip")
    row, files = shown(acme_client, dataset), stored_files(places)
    assert row["state"] == before
    body = zips.packed(zips.good(first=50))
    answer = stream(acme_client, dataset, body_type(body[:4000]), len(body))
    assert answer.status_code == 400
    assert f"4,000 of {len(body):,} bytes" in answer.json()["detail"]
    assert shown(acme_client, dataset) == row
    assert stored_files(places) == files
    assert not scratch_files(places)


def test_the_progress_is_seen_while_bytes_arrive(acme_client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 3000)
    monkeypatch.setattr(uploads, "SECONDS_BETWEEN_NEWS", 0)
    dataset = create(acme_client)
    seen = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            row = shown(acme_client, dataset)
            seen.append((row["state"], row["progress"]))
            return super().read(size)

    body = zips.packed(zips.good())
    assert stream(acme_client, dataset, Watched(body), len(body)).status_code == 200
    assert seen[:3] == [
        ("uploading", {"phase": "receiving", "done": done, "total": len(body)}) for done in (0, 3000, 6000)
    ]


def test_progress_is_told_a_few_times_a_second(acme_client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 10)
    told: list[dict[str, Any]] = []
    change = uploads.Upload.change

    def noted(upload: Any, **values: Any) -> None:
        told.append(values)
        change(upload, **values)

    monkeypatch.setattr(uploads.Upload, "change", noted)
    dataset = create(acme_client)
    started = time.monotonic()
    assert upload(acme_client, dataset, zips.packed(zips.good())).status_code == 200
    assert sum("progress" in v and v["progress"] != {} for v in told) <= 4 * (time.monotonic() - started) + 2


def test_only_the_newest_upload_finishes(acme_client: APIClient, places: Path) -> None:
    dataset = create(acme_client)
    newer = zips.packed(zips.good(first=50))

    class Overtaken(io.BytesIO):
        overtaken = False

        def read(self, size: int | None = -1, /) -> bytes:
            if not self.overtaken:
                self.overtaken = True
                assert upload(acme_client, dataset, newer).status_code == 200
            return super().read(size)

    older = zips.packed(zips.good())
    answer = stream(acme_client, dataset, Overtaken(older), len(older))
    assert answer.status_code == 409
    assert "newer upload" in answer.json()["detail"]
    row = shown(acme_client, dataset)
    assert row["state"] == "checked"
    assert len(stored_files(places)) == 11
    with zips.opened(newer) as files:
        assert row["size"] == sum(info.file_size for info in files.infolist())


def test_an_upload_that_is_overtaken_in_the_check_changes_nothing(
    acme: Account, acme_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = create(acme_client)
    check = uploads._check

    def overtaken(*args: Any) -> Any:
        monkeypatch.setattr(uploads, "_check", check)
        assert upload(acme_client, dataset, b"no zip, but newer").status_code == 400
        return check(*args)

    monkeypatch.setattr(uploads, "_check", overtaken)
    assert upload(acme_client, dataset, zips.packed(zips.good())).status_code == 409
    assert shown(acme_client, dataset)["state"] == "rejected"
    assert live_digests(acme) == set()


def test_an_upload_to_a_data_set_that_was_deleted_meanwhile_is_dropped(acme_client: APIClient, places: Path) -> None:
    dataset = create(acme_client)

    class Deleting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            acme_client.delete(f"{DATASETS}/{dataset}")
            return super().read(size)

    body = zips.packed(zips.good())
    assert stream(acme_client, dataset, Deleting(body), len(body)).status_code == 409
    assert acme_client.get(f"{DATASETS}/{dataset}").status_code == 404
    assert not stored_files(places)


def test_an_upload_that_crashed_can_be_started_again(acme: Account, acme_client: APIClient) -> None:
    dataset = create(acme_client)
    with scoping.tenant(acme.tenant.pk):
        Dataset.objects.for_tenant(acme.tenant).update(
            state="uploading", upload_id="upl_dead", progress={"phase": "checking", "done": 3, "total": 10}
        )
    body = zips.packed(zips.good())
    assert stream(acme_client, dataset, io.BytesIO(body[:10]), len(body)).status_code == 400
    assert shown(acme_client, dataset)["state"] == "created"
    assert upload(acme_client, dataset, body).status_code == 200


def test_what_a_killed_process_left_is_removed_a_day_later(
    acme_client: APIClient, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [places / "scratch/uploads/old.zip", places / "files/incoming/old/abc"]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half an upload")
    dataset = filled(acme_client)
    assert all(path.exists() for path in left)
    day = 25 * 3600
    now = time.time()
    monkeypatch.setattr("modelhub.storage.files.time.time", lambda: now + day)
    upload(acme_client, dataset, zips.packed(zips.good()))
    assert not any(path.exists() for path in left)


def test_a_disk_that_is_full_is_no_fault_of_the_upload(
    acme_client: APIClient, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    dataset = create(acme_client)
    monkeypatch.setattr(storage.Staging, "add", full)
    answer = upload(acme_client, dataset, zips.packed(zips.good()))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert shown(acme_client, dataset)["state"] == "created"
    assert not scratch_files(places)


@pytest.mark.parametrize("moved", [0, 5])
def test_a_fault_while_files_are_stored_leaves_none(
    acme: Account, acme_client: APIClient, places: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    from modelhub.storage import files

    move_in, calls = files.move_in, []

    def failing(*args: Any, **options: Any) -> None:
        calls.append(args)
        if len(calls) > moved:
            raise OSError(5, "Input/output error")
        move_in(*args, **options)

    kept = filled(acme_client, "kept", train=2)
    before = stored_files(places)
    dataset = create(acme_client)
    monkeypatch.setattr(files, "move_in", failing)
    assert upload(acme_client, dataset, zips.packed(zips.good(first=50))).status_code == 503
    assert shown(acme_client, dataset)["state"] == "created"
    assert stored_files(places) == before == live_digests(acme)
    assert shown(acme_client, kept)["state"] == "checked"


def test_a_plans_limit_of_stored_bytes_is_kept(acme: Account, acme_client: APIClient, places: Path) -> None:
    dataset = filled(acme_client)
    row, files = shown(acme_client, dataset), stored_files(places)
    with scoping.operator():
        held = storage.held(tenant_id=acme.tenant.pk)
        Plan.objects.filter(pk="standard").update(stored_bytes=held + 1000)
    other = create(acme_client, "other")
    answer = upload(acme_client, other, zips.packed(zips.good(first=50)))
    assert answer.status_code == 429
    assert f"allows {held + 1000:,}" in answer.json()["detail"]
    assert shown(acme_client, other)["state"] == "created"
    assert stored_files(places) == files
    # The same pictures again take no room, and a replacement is measured without what it replaces.
    assert upload(acme_client, other, zips.packed(zips.good())).status_code == 200
    assert acme_client.delete(f"{DATASETS}/{other}").status_code == 204
    assert upload(acme_client, dataset, zips.packed(zips.good(first=50))).status_code == 200
    assert shown(acme_client, dataset) != row


def test_a_new_upload_replaces_the_one_before(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = filled(acme_client)
    other = filled(acme_client, "other", train=2)  # the first two of the first class are the same pictures
    with django_capture_on_commit_callbacks(execute=True):
        assert upload(acme_client, dataset, zips.packed(zips.good(first=50))).status_code == 200
    assert stored_files(places) == live_digests(acme)
    with scoping.tenant(acme.tenant.pk):
        for name in (dataset, other):
            manifest = datasets.load_manifest(datasets.get(tenant=acme.tenant, dataset_id=name))
            assert {item.sha256 for item in manifest.items} <= stored_files(places)
        assert BlobUse.objects.for_tenant(acme.tenant).count() == 11 + 9
    assert len(stored_files(places)) == 11 + 9


def test_a_rejected_upload_takes_the_content_before_with_it(
    acme: Account, acme_client: APIClient, places: Path, django_capture_on_commit_callbacks: Capture
) -> None:
    dataset = filled(acme_client)
    with django_capture_on_commit_callbacks(execute=True):
        assert upload(acme_client, dataset, b"no zip").status_code == 400
    row = shown(acme_client, dataset)
    assert (row["state"], row["items"], row["size"], row["classes"]) == ("rejected", 0, 0, [])
    assert stored_files(places) == live_digests(acme) == set()
    assert upload(acme_client, dataset, zips.packed(zips.good())).status_code == 200


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_two_uploads_at_once_leave_what_the_newest_brought(
    acme: Account, client_of: Any, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "SECONDS_BETWEEN_NEWS", 0.01)
    decode = pictures.decode

    def slowly(data: bytes, *, max_pixels: int) -> pictures.Pixels:
        time.sleep(0.02)
        return decode(data, max_pixels=max_pixels)

    monkeypatch.setattr(pictures, "decode", slowly)
    client = client_of(acme.key)
    dataset = create(client)
    answers: list[int] = []

    def work(first: int) -> None:
        body = zips.packed(zips.good(train=20, first=first))
        answers.append(upload(client_of(acme.key), dataset, body).status_code)
        connection.close()

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 1000, 2000)]
    phases = set()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        phases.add(shown(client, dataset)["progress"].get("phase"))
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 409, 409]
    assert "checking" in phases
    row = shown(client, dataset)
    assert (row["state"], row["items"], row["progress"]) == ("checked", 44, {})
    assert stored_files(places) == live_digests(acme)
    assert len(stored_files(places)) == 45


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_deleting_and_uploading_the_same_pictures_at_once_loses_none(
    acme: Account, client_of: Any, places: Path
) -> None:
    client = client_of(acme.key)
    body = zips.packed(zips.good())
    kept = [create(client, f"kept {n}") for n in range(4)]
    doomed = [filled(client, f"doomed {n}") for n in range(4)]

    def delete() -> None:
        mine = client_of(acme.key)
        assert [mine.delete(f"{DATASETS}/{d}").status_code for d in doomed] == [204] * 4

    def fill() -> None:
        mine = client_of(acme.key)
        assert [upload(mine, d, body).status_code for d in kept] == [200] * 4

    in_threads(lambda number: (delete, fill)[number](), 2)
    assert stored_files(places) == live_digests(acme)
    assert len(stored_files(places)) == 11
