"""The verb receive: a file streamed to the disk, checked, and stored, or nothing at all."""

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings

from modelhub import storage
from modelhub.datasets import archives, checking, lifecycle
from modelhub.datasets.checking import Report, Unusable
from modelhub.datasets.manifests import Manifest
from modelhub.datasets.splits import Split
from modelhub.models import Dataset, DatasetState
from modelhub.storage import files
from tenants import audit, ids, scoping
from tenants.errors import Conflict, FieldError, Invalid, LengthRequired, OverQuota, TooLarge, Unavailable
from tenants.models import Tenant

CHUNK = 1024 * 1024
SECONDS_BETWEEN_NEWS = 0.25

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]


class Readable(Protocol):
    """A request's body."""

    def read(self, size: int, /) -> bytes: ...


class Superseded(Conflict):
    """A newer upload to the data set has begun, or it was deleted; this upload changes nothing."""


@dataclass(slots=True)
class _Upload:
    """An upload under way, and when its progress was last told."""

    tenant: Tenant
    dataset_id: str
    id: str
    told_at: float = 0.0

    def rows(self) -> Any:
        """The data set, as long as this upload is its newest."""
        return Dataset.objects.for_tenant(self.tenant).filter(pk=self.dataset_id, upload_id=self.id)

    def tell(self, phase: str, done: int, total: int) -> None:
        """Shows the progress, a few times a second; finds out here that a newer upload has begun."""
        if time.monotonic() < self.told_at + SECONDS_BETWEEN_NEWS:
            return
        with scoping.tenant(self.tenant.pk):
            self.change(progress={"phase": phase, "done": done, "total": total})
        self.told_at = time.monotonic()

    def change(self, **values: Any) -> None:
        if not self.rows().update(**values):
            raise Superseded("A newer upload to this data set has begun, or it was deleted: this one was dropped.")


def receive(
    *,
    tenant: Tenant,
    dataset_id: str,
    content: Readable,
    content_type: str,
    length: int | None,
    actor: str,
    clock: Clock,
) -> Dataset:
    """Takes the file that `content` holds, of `length` bytes, as the data set's content, in place of any before.

    Runs for as long as the body takes, in short transactions of its own. Unusable content leaves the data set
    rejected, with the report; any other refusal leaves it as it was.
    """
    length = _checked_length(length)
    upload = _begin(tenant, dataset_id, length)
    try:
        with _scratch_file() as path, storage.Staging(tenant_id=tenant.pk) as staging:
            _save_body(upload, content, length, path)
            manifest, report = _check(upload, path, content_type, staging)
            return _finish(upload, manifest, report, staging, actor, clock())
    except Unusable as refusal:
        _reject(upload, refusal, actor, clock())
        raise
    except OSError as error:
        _step_back(upload)
        logger.exception("an upload to %s could not be kept", dataset_id)
        raise Unavailable("The upload cannot be kept right now; try again later.", retry_after=60) from error
    except BaseException:
        _step_back(upload)
        raise


def _checked_length(length: int | None) -> int:
    limit = settings.DATASET_MAX_UPLOAD_BYTES
    if length is None:
        raise LengthRequired("Send the header Content-Length: without it a body that was cut looks like a whole one.")
    if length > limit:
        raise TooLarge(f"The body has {length:,} bytes; the limit for a data set is {limit:,}.")
    if length == 0:
        raise Invalid("The body is empty; expected a file.", errors=(FieldError("body", "Expected a file."),))
    return length


def _begin(tenant: Tenant, dataset_id: str, length: int) -> _Upload:
    upload = _Upload(tenant=tenant, dataset_id=dataset_id, id=ids.new("upl"))
    with scoping.tenant(tenant.pk):
        dataset = lifecycle.get(tenant=tenant, dataset_id=dataset_id)
        open_rows = Dataset.objects.for_tenant(tenant).filter(pk=dataset_id).exclude(state=DatasetState.SEALED)
        if not open_rows.update(
            state=DatasetState.UPLOADING,
            upload_id=upload.id,
            progress={"phase": "receiving", "done": 0, "total": length},
        ):
            raise Conflict(f"The data set {dataset.name!r} is sealed: it never changes. Create another one.")
    return upload


@contextlib.contextmanager
def _scratch_file() -> Iterator[Path]:
    """A place for the body, gone afterwards; also removes what killed processes left."""
    folder = Path(settings.SCRATCH_DIR) / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder, files.incoming()):
        files.remove_left_behind(place)
    path = folder / f"{secrets.token_hex(12)}.zip"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _save_body(upload: _Upload, content: Readable, length: int, path: Path) -> None:
    done = 0
    with path.open("wb") as copy:
        while chunk := _next_chunk(content, done, length):
            done += len(chunk)
            copy.write(chunk)
            upload.tell("receiving", done, length)
    if done < length:
        raise _cut(done, length)


def _next_chunk(content: Readable, done: int, length: int) -> bytes:
    try:
        return content.read(min(CHUNK, length - done))
    except OSError as error:
        raise _cut(done, length) from error


def _cut(done: int, length: int) -> Invalid:
    return Invalid(
        f"The body was cut: {done:,} of {length:,} bytes came. Nothing was changed; send it again.",
        errors=(FieldError("body", f"Expected {length} bytes."),),
    )


def _check(upload: _Upload, path: Path, content_type: str, staging: storage.Staging) -> tuple[Manifest, Report]:
    upload.told_at = 0.0
    with scoping.tenant(upload.tenant.pk):
        dataset = lifecycle.get(tenant=upload.tenant, dataset_id=upload.dataset_id)
    return checking.check(
        path,
        content_type=content_type,
        kind=dataset.kind,
        split=Split(**dataset.split),
        columns=dataset.columns,
        staging=staging,
        limits=archives.limits_in_force(),
        max_pixels=settings.PICTURE_MAX_PIXELS,
        max_seconds=settings.DATASET_MAX_SOUND_SECONDS,
        progress=partial(upload.tell, "checking"),
    )


def _finish(
    upload: _Upload, manifest: Manifest, report: Report, staging: storage.Staging, actor: str, now: datetime
) -> Dataset:
    """The content takes effect, in one transaction: rows, files, and the end of those that it replaces."""
    content = staging.add(manifest.as_bytes())
    size = sum(item.size for item in manifest.items)
    with scoping.tenant(upload.tenant.pk):
        upload.change(
            state=DatasetState.CHECKED,
            report=report.as_json(),
            progress={},
            manifest_sha256=content.sha256,
            items=manifest.rows(),
            size=size,
        )
        dataset: Dataset = upload.rows().get()
        staging.record(now=now)
        replaced = lifecycle.replace_uses(dataset=dataset, digests=staging.blobs)
        lifecycle.erase_unused(tenant_id=upload.tenant.pk, digests=replaced, now=now)
        _check_room(upload.tenant)
        upload.change(upload_id="")
        audit.record(
            tenant=upload.tenant,
            actor=actor,
            verb="dataset.upload",
            subject=dataset.pk,
            manifest_sha256=content.sha256,
            items=dataset.items,
            size=size,
            bad=report.bad,
        )
        staging.move_in(now=now)
    dataset.upload_id = ""
    return dataset


def _check_room(tenant: Tenant) -> None:
    limit = tenant.plan.stored_bytes
    held = storage.held(tenant_id=tenant.pk)
    if limit is not None and held > limit:
        raise OverQuota(
            f"With this upload {held:,} bytes would be stored; the plan {tenant.plan.name} allows {limit:,}. "
            "Delete data sets, or ask for a larger plan."
        )


def _reject(upload: _Upload, refusal: Unusable, actor: str, now: datetime) -> None:
    """The data set has no content now: neither this upload nor the one before."""
    with scoping.tenant(upload.tenant.pk):
        upload.change(
            state=DatasetState.REJECTED, report=refusal.report, progress={}, manifest_sha256="", items=0, size=0
        )
        held = lifecycle.replace_uses(dataset=upload.rows().get(), digests=())
        lifecycle.erase_unused(tenant_id=upload.tenant.pk, digests=held, now=now)
        upload.change(upload_id="")
        audit.record(
            tenant=upload.tenant,
            actor=actor,
            verb="dataset.upload",
            subject=upload.dataset_id,
            refused=refusal.detail,
        )


def _step_back(upload: _Upload) -> None:
    """The data set is again what its content says it was, unless a newer upload has begun."""
    with scoping.tenant(upload.tenant.pk):
        dataset = upload.rows().first()
        if dataset is not None:
            before = DatasetState.CREATED
            if dataset.manifest_sha256:
                before = DatasetState.CHECKED
            elif dataset.report is not None:
                before = DatasetState.REJECTED
            upload.rows().update(state=before, upload_id="", progress={})
