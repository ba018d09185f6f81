"""Uploads in parts: announced, sent a part at a time in any order, completed once all are there; or forgotten.

Which parts are there is in rows; the parts themselves lie in SCRATCH_DIR, so that a server that was started again goes
on where it was. Several web servers need one SCRATCH_DIR between them, or a client that stays with one of them.
"""

import hashlib
import logging
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet, Sum

from modelhub.datasets import lifecycle, scratch, uploads
from modelhub.datasets.uploads import CHUNK, CLOSED, Clock, Readable, Upload
from modelhub.models import Dataset, DatasetUpload, DatasetUploadPart, UploadMode, UploadState
from tenants import audit, scoping
from tenants.errors import Conflict, FieldError, Invalid, NotFound, OverQuota, TooLarge, Unavailable
from tenants.models import Tenant

MAX_PARTS = 10_000
MAX_NAMED = 10
SWEEP = "service:sweep"

logger = logging.getLogger(__name__)


def begin(
    *, dataset: Dataset, length: int, media_type: str, sha256: str = "", mode: str = UploadMode.REPLACE, actor: str,
    now: datetime,
) -> DatasetUpload:  # fmt: skip
    """Announces a file of so many bytes, which then comes in parts; `sha256` is the whole's, where it is known."""
    if dataset.state in CLOSED:
        raise Conflict(f"The data set {str(dataset)!r} is {dataset.state}: make a new version of it.")
    if length > settings.DATASET_MAX_PARTED_BYTES:
        limit = settings.DATASET_MAX_PARTED_BYTES
        raise TooLarge(f"The file has {length:,} bytes; the limit for an upload in parts is {limit:,}.")
    _check_room(dataset.tenant_id, length)
    upload = DatasetUpload.objects.create(
        tenant_id=dataset.tenant_id, dataset=dataset, length=length, media_type=media_type, sha256=sha256, mode=mode,
        created_by=actor, created_at=now, expires_at=now + kept(),
    )  # fmt: skip
    audit.record(
        tenant=dataset.tenant_id, actor=actor, verb="dataset.begin_upload", subject=dataset.pk, upload=upload.pk,
        length=length, mode=mode,
    )  # fmt: skip
    return upload


def of_dataset(*, dataset: Dataset) -> QuerySet[DatasetUpload]:
    """The uploads in parts to a data set, those that have ended too."""
    return DatasetUpload.objects.for_tenant(dataset.tenant_id).filter(dataset=dataset)


def get(*, tenant: Tenant | str, dataset_id: str, upload_id: str) -> DatasetUpload:
    """The tenant's upload of this id."""
    rows = DatasetUpload.objects.for_tenant(tenant).select_related("dataset")
    row = rows.filter(pk=upload_id, dataset_id=dataset_id).first()
    if row is None:
        raise NotFound(f"There is no upload {upload_id!r} to a data set {dataset_id!r}.")
    return row


def there(*, upload: DatasetUpload) -> QuerySet[DatasetUploadPart]:
    """The parts that have come, in their order."""
    return DatasetUploadPart.objects.for_tenant(upload.tenant_id).filter(upload=upload).order_by("number")


def received(*, upload: DatasetUpload) -> int:
    """How many bytes of it have come."""
    return there(upload=upload).aggregate(total=Sum("size"))["total"] or 0


def receive(
    *, tenant: Tenant, dataset_id: str, upload_id: str, number: int, content: Readable, length: int | None,
    sha256: str = "", clock: Clock,
) -> DatasetUploadPart:  # fmt: skip
    """Takes a part of `length` bytes, in place of one that has the same number; refused unless it has this `sha256`.

    Runs for as long as the body takes, in short transactions of its own.
    """
    size = uploads.checked_length(length, most=settings.DATASET_MAX_PART_BYTES)
    if not 1 <= number <= MAX_PARTS:
        raise Invalid(f"The part's number is {number}; expected 1 to {MAX_PARTS:,}.")
    with scoping.tenant(tenant.pk):
        upload = get(tenant=tenant, dataset_id=dataset_id, upload_id=upload_id)
        _check_open(upload, clock())
        _check_fits(upload, number, size)
    try:
        with scratch.part(upload.pk) as path:
            found = _save(content, size, path)
            _check_sum(found, sha256)
            return _keep(upload, number, size, found, path, clock())
    except OSError as error:
        logger.exception("a part of %s could not be kept", upload_id)
        raise Unavailable("The part cannot be kept right now; try again later.", retry_after=60) from error


def complete(*, tenant: Tenant, dataset_id: str, upload_id: str, actor: str, clock: Clock) -> Dataset:
    """Puts the parts together, checks the whole, and makes it the content as `uploads.receive` does.

    Completing twice changes nothing the second time. What fails for a reason that is not in the file leaves the upload
    open, so that it can be completed later.
    """
    with scoping.tenant(tenant.pk):
        upload = _claimed(get(tenant=tenant, dataset_id=dataset_id, upload_id=upload_id), clock())
        if upload is None:
            return lifecycle.get(tenant=tenant, dataset_id=dataset_id)
        parts = list(there(upload=upload))
    taken = Upload(
        tenant=tenant,
        dataset_id=dataset_id,
        mode=upload.mode,
        actor=actor,
        clock=clock,
        content_type=upload.media_type,
        parts_id=upload.pk,
    )
    try:
        return uploads.take_in(taken, length=upload.length, fill=partial(_assemble, taken, upload, parts))
    finally:
        _release(upload)


def abort(*, upload: DatasetUpload, actor: str, now: datetime) -> None:
    """Ends an upload and removes its parts. One that has ended stays as it is."""
    rows = DatasetUpload.objects.for_tenant(upload.tenant_id).filter(pk=upload.pk, state=UploadState.OPEN)
    if rows.exclude(checked_until__gt=now).update(state=UploadState.ABORTED, ended_at=now, checked_until=None):
        there(upload=upload).delete()
        audit.record(
            tenant=upload.tenant_id, actor=actor, verb="dataset.abort_upload", subject=upload.dataset_id,
            upload=upload.pk,
        )  # fmt: skip
        transaction.on_commit(partial(scratch.remove_parts, [upload.pk]), robust=True)
    elif rows.exists():
        raise Conflict(f"The upload {upload.pk} is being checked; it can be aborted once that has ended.")


def end_all(*, dataset: Dataset, now: datetime) -> None:
    """Ends the open uploads to a data set that is erased; in the caller's transaction."""
    rows = of_dataset(dataset=dataset).filter(state=UploadState.OPEN)
    _expire(list(rows.select_for_update()), now)


def expire(*, now: datetime) -> int:
    """Ends the uploads that nobody went on with in time; how many. Any process may call it, for all tenants."""
    with scoping.operator():
        due = DatasetUpload.across_tenants.select_for_update(skip_locked=True).filter(
            state=UploadState.OPEN, expires_at__lte=now
        )
        ended = list(due.exclude(checked_until__gt=now))
        _expire(ended, now)
    return len(ended)


def kept() -> timedelta:
    """How long an upload waits for its next part."""
    return timedelta(seconds=settings.DATASET_UPLOAD_SECONDS)


def _expire(ended: list[DatasetUpload], now: datetime) -> None:
    for upload in ended:
        rows = DatasetUpload.objects.for_tenant(upload.tenant_id).filter(pk=upload.pk)
        rows.update(state=UploadState.EXPIRED, ended_at=now, checked_until=None)
        there(upload=upload).delete()
        audit.record(
            tenant=upload.tenant_id, actor=SWEEP, verb="dataset.expire_upload", subject=upload.dataset_id,
            upload=upload.pk,
        )  # fmt: skip
    transaction.on_commit(partial(scratch.remove_parts, [upload.pk for upload in ended]), robust=True)


def _check_room(tenant_id: str, length: int) -> None:
    """What a tenant's open uploads may take of the disk, whether it has come or is only announced."""
    # Whoever announces meanwhile waits: else both might find room for one.
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)
    open_rows = DatasetUpload.objects.for_tenant(tenant_id).filter(state=UploadState.OPEN)
    announced = open_rows.aggregate(total=Sum("length"))["total"] or 0
    limit = settings.DATASET_MAX_OPEN_UPLOAD_BYTES
    if announced + length > limit:
        raise OverQuota(
            f"Your open uploads announce {announced:,} bytes; with these {length:,} they would pass {limit:,}, the "
            "most that may wait at a time. Complete or abort some.",
            retry_after=60,
        )


def _check_open(upload: DatasetUpload, now: datetime) -> None:
    if upload.state == UploadState.OPEN and upload.expires_at <= now:
        raise Conflict(f"The upload {upload.pk} has expired: begin another.")
    if upload.state != UploadState.OPEN:
        raise Conflict(f"The upload {upload.pk} is {upload.state}, no longer open: begin another.")
    if upload.checked_until is not None and upload.checked_until > now:
        raise Conflict(
            f"The upload {upload.pk} is being checked; the data set shows how far that is.", retry_after=5
        )  # fmt: skip


def _check_fits(upload: DatasetUpload, number: int, size: int) -> None:
    others = there(upload=upload).exclude(number=number).aggregate(total=Sum("size"))["total"] or 0
    if others + size > upload.length:
        raise TooLarge(
            f"With this part of {size:,} bytes {others + size:,} would be there; {upload.length:,} are announced."
        )


def _save(content: Readable, length: int, path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as copy:
        for chunk in uploads.chunks(content, length):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()


def _check_sum(found: str, announced: str) -> None:
    if announced and found != announced:
        raise Invalid(
            f"The sha256 of what came is {found}; {announced} was announced. Nothing was changed; send it again.",
            errors=(FieldError("body", f"Expected bytes with the sha256 {announced}."),),
        )


def _keep(upload: DatasetUpload, number: int, size: int, sha256: str, path: Path, now: datetime) -> DatasetUploadPart:
    """The row of a part, and its file in its place."""
    with scoping.tenant(upload.tenant_id):
        row = DatasetUpload.objects.for_tenant(upload.tenant_id).select_for_update().filter(pk=upload.pk).first()
        if row is None:
            raise NotFound(f"There is no upload {upload.pk!r} any more.")
        _check_open(row, now)
        _check_fits(row, number, size)
        before = there(upload=row).filter(number=number).first()
        part, _ = DatasetUploadPart.objects.for_tenant(row.tenant_id).update_or_create(
            upload=row, number=number,
            defaults={"tenant_id": row.tenant_id, "size": size, "sha256": sha256, "received_at": now},
        )  # fmt: skip
        row.expires_at = now + kept()
        row.save(update_fields=["expires_at"])
        path.replace(_file(part))
        if before is not None and before.sha256 != sha256:
            # While the row is locked: later, it might be there again. What fails from here on is sent again.
            _file(before).unlink(missing_ok=True)
    return part


def _file(part: DatasetUploadPart) -> Path:
    return scratch.part_file(part.upload_id, number=part.number, sha256=part.sha256)


def _claimed(upload: DatasetUpload, now: datetime) -> DatasetUpload | None:
    """The upload for this caller to check, if it is whole; none if that was done before."""
    row = DatasetUpload.objects.for_tenant(upload.tenant_id).select_for_update().get(pk=upload.pk)
    if row.state == UploadState.COMPLETED:
        return None
    _check_open(row, now)
    _check_whole(row)
    row.checked_until = now + uploads.CHECK_LEASE
    row.save(update_fields=["checked_until"])
    return row


def _check_whole(upload: DatasetUpload) -> None:
    parts = list(there(upload=upload))
    numbers = {part.number for part in parts}
    missing = sorted(set(range(1, max(numbers, default=0))) - numbers)
    if missing:
        raise Conflict(f"{_named(missing)} missing; send {'it' if len(missing) == 1 else 'them'} first.")
    size = sum(part.size for part in parts)
    if size != upload.length:
        raise Conflict(f"{size:,} of {upload.length:,} bytes are there, in {len(parts)} parts; send the rest first.")
    lost = [part for part in parts if not _file(part).exists()]
    if lost:
        raise Conflict(
            f"{_named([part.number for part in lost])} not on this server's disk; "
            "send it again, through the same server as the others."
        )


def _named(numbers: list[int]) -> str:
    text = ", ".join(map(str, numbers[:MAX_NAMED])) + (" and more" if len(numbers) > MAX_NAMED else "")
    return f"The part {text} is" if len(numbers) == 1 else f"The parts {text} are"


def _assemble(taken: Upload, upload: DatasetUpload, parts: list[DatasetUploadPart], path: Path) -> None:
    """The whole file, from its parts; each part's sha256 and the whole's are looked at again on the way."""
    whole, done = hashlib.sha256(), 0
    with path.open("wb") as copy:
        for part in parts:
            digest = hashlib.sha256()
            with _file(part).open("rb") as content:
                while chunk := content.read(CHUNK):
                    for one in (whole, digest):
                        one.update(chunk)
                    copy.write(chunk)
            if digest.hexdigest() != part.sha256:
                raise OSError(f"part {part.number} of {upload.pk} is not what came: its sha256 differs")
            done += part.size
            taken.tell("receiving", done, upload.length)
    _check_sum(whole.hexdigest(), upload.sha256)


def _release(upload: DatasetUpload) -> None:
    """Lets others complete the upload if it is still open; else its parts have done their duty."""
    with scoping.tenant(upload.tenant_id):
        rows = DatasetUpload.objects.for_tenant(upload.tenant_id).filter(pk=upload.pk)
        if not rows.filter(state=UploadState.OPEN).update(checked_until=None):
            DatasetUploadPart.objects.for_tenant(upload.tenant_id).filter(upload_id=upload.pk).delete()
            transaction.on_commit(partial(scratch.remove_parts, [upload.pk]), robust=True)
