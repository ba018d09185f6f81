"""The check of an upload, whatever its kind: what is good in it, and whether that is enough to train on."""

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from modelhub import storage
from modelhub.datasets import archives, kinds
from modelhub.datasets.archives import Limits
from modelhub.datasets.kinds.base import ZIP_TYPES, Progress, Source, Work
from modelhub.datasets.manifests import Item, Manifest
from modelhub.datasets.reports import Report, Unusable
from modelhub.datasets.splits import Split


def check(
    path: Path,
    *,
    content_type: str = ZIP_TYPES[0],
    kind: str,
    split: Split | None = None,
    columns: Mapping[str, str] | None = None,
    staging: storage.Staging,
    limits: Limits,
    max_pixels: int,
    max_seconds: float,
    progress: Progress,
    base: Manifest | None = None,
) -> tuple[Manifest, Report]:
    """Examines every item of the upload at `path` and stages the good ones. Raises Unusable with the report.

    With a `base`, what is good is added to its items, and the sum of both is what must suffice.
    """
    report = Report()
    work = Work(
        staging=staging,
        scratch=staging.folder / "scratch",
        limits=limits,
        max_pixels=max_pixels,
        max_seconds=max_seconds,
        progress=progress,
        split=split or Split(),
        columns={column.name: column.type for column in base.columns} if base else columns or {},
        base=base,
    )
    try:
        manifest = kinds.get(kind).read(Source(path, content_type), work, report)
        if base is not None:
            manifest = combined(base, manifest)
        judge(manifest, report, staging=staging)
    except archives.Unsafe as refusal:
        report.reasons.append(refusal.detail)
        raise Unusable(report) from refusal
    except sqlite3.OperationalError as error:
        raise OSError(f"the rows cannot be kept while they are checked: {error}") from error
    if report.reasons:
        raise Unusable(report)
    return manifest, report


def judge(manifest: Manifest, report: Report, *, staging: storage.Staging) -> None:
    """Writes into the report what the content says by itself: counts, warnings, the reasons against using it.

    Files that are neither staged nor stored for the staging's tenant are an error.
    """

    def open_file(sha256: str) -> BinaryIO:
        if sha256 in staging.blobs:
            return staging.open(sha256)
        return storage.open(tenant_id=staging.tenant_id, sha256=sha256)

    scratch = staging.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    kinds.get(manifest.kind).judge(manifest, report, open_file=open_file, scratch=scratch)


def combined(base: Manifest, added: Manifest) -> Manifest:
    """The items of both; of two that have one name, the added one."""
    items: dict[str, Item] = {item.name: item for item in (*base.items, *added.items)}
    classes = sorted({*base.classes, *added.classes})
    return replace(
        base, classes=tuple(classes), columns=base.columns or added.columns,
        items=tuple(sorted(items.values(), key=lambda item: item.name)),
    )  # fmt: skip


__all__ = ["Report", "Unusable", "check", "combined", "judge"]
