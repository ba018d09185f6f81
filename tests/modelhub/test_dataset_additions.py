"""What is added to a data set's content, and rows that are left out of it, as new versions of data sets need it."""

import re
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from modelhub import storage
from modelhub.datasets import archives, checking, row_revisions, rows
from modelhub.datasets.checking import Report, Unusable
from modelhub.datasets.manifests import Manifest
from modelhub.datasets.splits import Split
from tenants.errors import Invalid
from tests.conftest import Account
from tests.modelhub import recordings, zips
from tests.modelhub.calls import manifest_of, uploaded
from tests.modelhub.places import places

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

CSV = "text/csv"


def texts(first: int, count: int, labels: str = "ab") -> bytes:
    numbers = range(first, first + count)
    return "\n".join(["text,label", *(f"text {n},{labels[n % len(labels)]}" for n in numbers), ""]).encode()


def added(acme: Account, places: Path, base: Manifest, body: bytes, **options: Any) -> tuple[Manifest, Report]:
    """The manifest and report of the base with what is in the body."""
    path = places / "body"
    path.write_bytes(body)
    with storage.Staging(tenant_id=acme.tenant.pk) as staging:
        return checking.check(
            path,
            kind=base.kind,
            staging=staging,
            limits=archives.limits_in_force(),
            max_pixels=1_000_000,
            max_seconds=60,
            progress=lambda done, total: None,
            base=base,
            **options,
        )


def test_added_rows_stand_in_parts_of_their_own(acme: Account, acme_client: APIClient, places: Path) -> None:
    base = manifest_of(acme, uploaded(acme_client, "text-classification", texts(0, 20), CSV))
    both, report = added(acme, places, base, texts(20, 40, "abc"), content_type=CSV, split=Split(validation=0.2))
    assert [(item.name, item.rows) for item in both.items] == [
        ("train/part-0000.jsonl", 18),
        ("train/part-0001.jsonl", 31),
        ("validation/part-0000.jsonl", 2),
        ("validation/part-0001.jsonl", 9),
    ]
    assert both.classes == ("a", "b", "c")
    assert set(base.items) < set(both.items)
    assert report.counts == {"train": 49, "validation": 11}
    assert sum(report.splits["train"].values()) == 49


def test_what_is_added_is_compared_with_what_is_there(acme: Account, acme_client: APIClient, places: Path) -> None:
    base = manifest_of(acme, uploaded(acme_client, "text-classification", texts(0, 20), CSV))
    body = zips.packed({"validation.csv": texts(0, 20)})
    _, report = added(acme, places, base, body)
    assert report.duplicates["exact"]["contents"] == 20
    assert report.duplicates["exact"]["across_splits"] == 18
    there, new = report.duplicates["exact"]["examples"][0]
    assert there == "body.csv:2"
    assert re.fullmatch(r"added-[0-9a-f]{8}/validation\.csv:2", new)


def test_added_rows_of_a_table_have_the_types_that_are_there(
    acme: Account, acme_client: APIClient, places: Path
) -> None:
    table = "\n".join(["x,y", *(f"{n},{n}" for n in range(20))]).encode()
    base = manifest_of(acme, uploaded(acme_client, "table", table, CSV))
    both, report = added(acme, places, base, b"x,y\n1,2\n2,0.5\n3,4\n4,5\n", content_type=CSV)
    assert both.columns == base.columns
    assert [each["problem"] for each in report.problems] == [
        "Its 'y' is '0.5'; expected a whole number of at most 18 digits."
    ]
    with pytest.raises(Unusable, match="no column 'y'"):
        added(acme, places, base, b"x,z\n1,2\n", content_type=CSV)


def test_added_files_join_those_that_are_there(acme: Account, acme_client: APIClient, places: Path) -> None:
    base = manifest_of(acme, uploaded(acme_client, "speech", zips.packed(recordings.good())))
    more = {f"audio/new{n}.wav": recordings.written(recordings.tone(100 + n)) for n in range(4)}
    rows = [{"path": name, "transcript": "maybe", "speaker": "ann"} for name in more]
    both, report = added(acme, places, base, zips.packed(more | {"transcripts.csv": recordings.listed(rows)}))
    assert (len(both.items), report.good) == (16, 16)
    assert report.content["vocabulary"]["words"] == 3


def test_rows_are_left_out_by_name(acme: Account, acme_client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PART_ROWS", 5)
    base = manifest_of(acme, uploaded(acme_client, "text-classification", texts(0, 20), CSV))
    first = base.of("train")[0]
    stored = storage.read(tenant_id=acme.tenant.pk, sha256=first.sha256).splitlines()
    with storage.Staging(tenant_id=acme.tenant.pk) as staging:
        rest = row_revisions.without(base, {"body.csv:2"}, staging=staging)
        changed = [item for item in rest.items if item not in base.items]
        assert rest.rows() == 19
        assert len(changed) == len(staging.blobs) == 1
        with staging.open(changed[0].sha256) as content:
            kept = content.read().splitlines()
        assert len(kept) == changed[0].rows
        if changed[0].name == first.name:
            assert set(kept) < set(stored)
        report = Report()
        checking.judge(rest, report, staging=staging)
    assert report.good == 19


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"body.csv:1"}, "no row 'body.csv:1'"),
        ({f"body.csv:{n}" for n in range(2, 22)}, "All 20 rows would be removed"),
    ],
)
def test_rows_that_cannot_be_left_out_are_refused(
    acme: Account, acme_client: APIClient, names: set[str], words: str
) -> None:
    base = manifest_of(acme, uploaded(acme_client, "text-classification", texts(0, 20), CSV))
    with storage.Staging(tenant_id=acme.tenant.pk) as staging, pytest.raises(Invalid, match=words):
        row_revisions.without(base, names, staging=staging)
