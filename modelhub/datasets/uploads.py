"""The verb receive: a file streamed to the disk, checked, and stored, or nothing at all."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.db.models import QuerySet

from modelhub import storage
from modelhub.datasets import archives, checking, lifecycle, scratch
from modelhub.datasets.checking import Report, Unusable
from modelhub.datasets.manifests import Manifest, load_manifest
from modelhub.datasets.splits import Split
from modelhub.models import Dataset, DatasetState, DatasetUpload, UploadMode, UploadState
from tenants import audit, ids, scoping
from tenants.errors import Conflict, FieldError, Invalid, LengthRequired, OverQuota, TooLarge, Unavailable
from tenants.models import Tenant

CHUNK = 1024 * 1024
SECONDS_BETWEEN_NEWS = 0.25
CHECK_LEASE = timedelta(seconds=60)
CLOSED = (DatasetState.SEALED, DatasetState.ERASED)

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]


class Readable(Protocol):
    """A request's body."""

    def read(self, size: int, /) -> bytes: ...


class Superseded(Conflict):
    """A newer upload to the data set has begun, or it was deleted; this upload changes nothing."""


@dataclass(slots=True)
class Upload:
    """An upload under way, and when its progress was last told. `parts_id` is what its parts were sent to."""

    tenant: Tenant
    dataset_id: str
    mode: str
    actor: str
    clock: Clock
    content_type: str
    parts_id: str = ""
    id: str = ""
    told_at: float = 0.0
    base: Manifest | None = None

    def rows(self) -> Any:
        """The data set, as long as this upload is its newest."""
        return Dataset.objects.for_tenant(self.tenant).filter(pk=self.dataset_id, upload_id=self.id)

    def tell(self, phase: str, done: int, total: int) -> None:
        """Shows the progress, a few times a second; finds out here that a newer upload has begun."""
        if time.monotonic() < self.told_at + SECONDS_BETWEEN_NEWS:
            return
        with scoping.tenant(self.tenant.pk):
            self.change(progress={"phase": phase, "done": done, "total": total})
            self.parts().update(checked_until=self.clock() + CHECK_LEASE)
        self.told_at = time.monotonic()

    def change(self, **values: Any) -> None:
        if not self.rows().update(**values):
            raise Superseded("A newer upload to this data set has begun, or it was deleted: this one was dropped.")

    def parts(self) -> QuerySet[DatasetUpload]:
        """The upload in parts that this is the check of; no row if the body comes in one piece."""
        return DatasetUpload.objects.for_tenant(self.tenant).filter(pk=self.parts_id, state=UploadState.OPEN)

    def end_parts(self, state: UploadState, now: datetime) -> bool:
        """What was sent in parts is done with: it takes effect, or cannot be used. False if it has ended before."""
        ended = self.parts().update(state=state, ended_at=now, checked_until=None)
        return bool(ended) or not self.parts_id


def receive(
    *,
    tenant: Tenant,
    dataset_id: str,
    content: Readable,
    content_type: str,
    length: int | None,
    mode: str = UploadMode.REPLACE,
    actor: str,
    clock: Clock,
) -> Dataset:
    """Takes the file that `content` holds, of `length` bytes, as the data set's content, or adds what is in it.

    Runs for as long as the body takes, in short transactions of its own. Unusable content leaves the data set
    rejected, with the report, or, where it was to be added, as it was; so does any other refusal.
    """
    size = checked_length(length, most=settings.DATASET_MAX_UPLOAD_BYTES)
    upload = Upload(
        tenant=tenant, dataset_id=dataset_id, mode=mode, actor=actor, clock=clock, content_type=content_type
    )
    return take_in(upload, length=size, fill=lambda path: _save_body(upload, content, size, path))


def take_in(upload: Upload, *, length: int, fill: Callable[[Path], None]) -> Dataset:
    """Carries an upload out: `fill` writes the file of `length` bytes to a place, where it is checked and stored."""
    _begin(upload, length)
    try:
        with scratch.body() as path, storage.Staging(tenant_id=upload.tenant.pk) as staging:
            fill(path)
            manifest, report = _check(upload, path, staging)
            return _finish(upload, manifest, report, staging)
    except Unusable as refusal:
        _refuse(upload, refusal)
        raise
    except OSError as error:
        _step_back(upload)
        logger.exception("an upload to %s could not be kept", upload.dataset_id)
        raise Unavailable("The upload cannot be kept right now; try again later.", retry_after=60) from error
    except BaseException:
        _step_back(upload)
        raise


def checked_length(length: int | None, *, most: int) -> int:
    """The length that a body is said to have; raises a refusal that says why it cannot be taken."""
    if length is None:
        raise LengthRequired("Send the header Content-Length: without it a body that was cut looks like a whole one.")
    if length > most:
        raise TooLarge(f"The body has {length:,} bytes; the limit for a data set is {most:,}.")
    if length == 0:
        raise Invalid("The body is empty; expected a file.", errors=(FieldError("body", "Expected a file."),))
    return length


def _begin(upload: Upload, length: int) -> None:
    upload.id = ids.upload()
    with scoping.tenant(upload.tenant.pk):
        dataset = lifecycle.get(tenant=upload.tenant, dataset_id=upload.dataset_id)
        open_rows = Dataset.objects.for_tenant(upload.tenant).filter(pk=upload.dataset_id)
        if not open_rows.exclude(state__in=CLOSED).update(
            state=DatasetState.UPLOADING,
            upload_id=upload.id,
            progress={"phase": "receiving", "done": 0, "total": length},
        ):
            raise Conflict(
                f"The data set {str(dataset)!r} is {dataset.state}: its content never changes. "
                "Make a new version of it, or another data set."
            )
        if upload.mode == UploadMode.ADD and dataset.manifest_sha256:
            upload.base = load_manifest(dataset)


def _save_body(upload: Upload, content: Readable, length: int, path: Path) -> None:
    done = 0
    with path.open("wb") as copy:
        for chunk in chunks(content, length):
            done += len(chunk)
            copy.write(chunk)
            upload.tell("receiving", done, length)


def chunks(content: Readable, length: int) -> Iterator[bytes]:
    """A body of `length` bytes, piece by piece; raises Invalid at the end if it was cut."""
    done = 0
    while chunk := _next_chunk(content, done, length):
        done += len(chunk)
        yield chunk
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


def _check(upload: Upload, path: Path, staging: storage.Staging) -> tuple[Manifest, Report]:
    upload.told_at = 0.0
    with scoping.tenant(upload.tenant.pk):
        dataset = lifecycle.get(tenant=upload.tenant, dataset_id=upload.dataset_id)
    return checking.check(
        path,
        content_type=upload.content_type,
        kind=dataset.kind,
        split=Split(**dataset.split),
        columns=dataset.columns,
        staging=staging,
        limits=archives.limits_in_force(),
        max_pixels=settings.PICTURE_MAX_PIXELS,
        max_seconds=settings.DATASET_MAX_SOUND_SECONDS,
        progress=partial(upload.tell, "checking"),
        base=upload.base,
    )


def _finish(upload: Upload, manifest: Manifest, report: Report, staging: storage.Staging) -> Dataset:
    """The content takes effect, in one transaction: rows, files, and the end of those that it replaces."""
    now = upload.clock()
    content = staging.add(manifest.as_bytes())
    held = {*staging.blobs, *(item.sha256 for item in manifest.items)}
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
        replaced = lifecycle.replace_uses(dataset=dataset, digests=held)
        lifecycle.erase_unused(tenant_id=upload.tenant.pk, digests=replaced, now=now)
        _check_room(upload.tenant)
        if not upload.end_parts(UploadState.COMPLETED, now):
            raise Superseded("The upload in parts has ended meanwhile: what it sent was dropped.")
        upload.change(upload_id="")
        audit.record(
            tenant=upload.tenant,
            actor=upload.actor,
            verb="dataset.upload",
            subject=dataset.pk,
            mode=upload.mode,
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


def _refuse(upload: Upload, refusal: Unusable) -> None:
    """What cannot be added changes nothing; else the data set has no content now, not even that of before."""
    now = upload.clock()
    with scoping.tenant(upload.tenant.pk):
        upload.end_parts(UploadState.REJECTED, now)
        if upload.base is None:
            _empty(upload, refusal, now)
        else:
            upload.change(**_state_before(upload.rows().get()), progress={})
        upload.change(upload_id="")
        audit.record(
            tenant=upload.tenant,
            actor=upload.actor,
            verb="dataset.upload",
            subject=upload.dataset_id,
            mode=upload.mode,
            refused=refusal.detail,
        )


def _empty(upload: Upload, refusal: Unusable, now: datetime) -> None:
    upload.change(state=DatasetState.REJECTED, report=refusal.report, progress={}, manifest_sha256="", items=0, size=0)
    held = lifecycle.replace_uses(dataset=upload.rows().get(), digests=())
    lifecycle.erase_unused(tenant_id=upload.tenant.pk, digests=held, now=now)


def _step_back(upload: Upload) -> None:
    """The data set is again what its content says it was, unless a newer upload has begun."""
    with scoping.tenant(upload.tenant.pk):
        upload.parts().update(checked_until=None)
        dataset = upload.rows().first()
        if dataset is not None:
            upload.rows().update(**_state_before(dataset), upload_id="", progress={})


def _state_before(dataset: Dataset) -> dict[str, str]:
    if dataset.report is None:
        return {"state": DatasetState.CREATED}
    return {"state": DatasetState.REJECTED if dataset.report["reasons"] else DatasetState.CHECKED}
