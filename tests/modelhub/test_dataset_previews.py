"""A look into data sets: first rows over HTTP, thumbnails, waveforms, and the operator's page."""

import base64
import io
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from django.test import Client
from PIL import Image
from rest_framework.test import APIClient

from modelhub.admin import dataset_pages
from modelhub.models import Dataset
from tests.modelhub import recordings, zips
from tests.modelhub.calls import DATASETS, create, filled, upload, uploaded
from tests.modelhub.places import places, stored_files

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

TEXTS = "text,label,group\n" + "".join(f"<b>text {n}</b>,{'ab'[n % 2]},g{n}\n" for n in range(40))
TABLE = "x,colour\n" + "".join(f"{n},{'red' if n % 2 else ''}\n" for n in range(40))


def look(client: APIClient, dataset: str, **query: Any) -> Any:
    answer = client.get(f"{DATASETS}/{dataset}/preview", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_pictures_are_seen_small(acme_client: APIClient) -> None:
    files = zips.good() | {"train/cat/large.jpg": zips.picture(99, height=400, width=800)}
    dataset = create(acme_client)
    upload(acme_client, dataset, zips.packed(files))
    rows = look(acme_client, dataset)["splits"]
    assert {split: len(some) for split, some in rows.items()} == {"train": 7, "validation": 4}
    large = next(row for row in rows["train"] if row["name"] == "train/cat/large.jpg")
    assert large["target"] == "cat"
    assert (large["facts"]["height"], large["facts"]["width"]) == (400, 800)
    answer = acme_client.get(large["picture"])
    assert answer.headers["Content-Type"] == "image/png"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert Image.open(io.BytesIO(answer.content)).size == (96, 48)


def test_recordings_are_seen_as_waveforms(acme_client: APIClient) -> None:
    quiet_then_loud = np.concatenate([0.01 * recordings.tone(1), recordings.tone(1)])
    files = recordings.good() | {"audio/0.wav": recordings.written(quiet_then_loud)}
    row = uploaded(acme_client, "speech", zips.packed(files))
    rows = [each for some in look(acme_client, row["id"], limit=20)["splits"].values() for each in some]
    item = next(each for each in rows if each["name"] == "audio/0.wav")
    assert (item["target"], item["group"], item["facts"]["seconds"]) == ("yes", "ann", 1.0)
    answer = acme_client.get(item["picture"])
    assert answer.headers["Content-Type"] == "image/svg+xml"
    path = ElementTree.fromstring(answer.content)[0].attrib["d"]
    heights = [float(bottom) - float(top) for top, bottom in re.findall(r"M\S+ ([\d.]+)V([\d.]+)", path)]
    assert len(heights) == 240
    assert max(heights[:110]) < 3 < 40 < min(heights[130:])


def test_rows_are_seen_as_they_are_stored(acme_client: APIClient) -> None:
    row = uploaded(acme_client, "text-classification", TEXTS.encode(), "text/csv")
    document = look(acme_client, row["id"], limit=3)
    assert {split: len(some) for split, some in document["splits"].items()} == {"train": 3, "validation": 3}
    assert set(document["splits"]["train"][0]) == {"text", "label", "group", "name"}
    only = look(acme_client, row["id"], split="validation")
    assert {split: len(some) for split, some in only["splits"].items()} == {"validation": 4}


def test_a_table_is_seen_with_its_columns(acme_client: APIClient) -> None:
    row = uploaded(acme_client, "table", TABLE.encode(), "text/csv")
    document = look(acme_client, row["id"], split="train")
    assert document["columns"] == [{"name": "x", "type": "integer"}, {"name": "colour", "type": "category"}]
    assert {each["values"]["colour"] for each in document["splits"]["train"]} == {None, "red"}


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"split": "test"}, {"rows": 3}])
def test_a_query_that_is_wrong_is_named(acme_client: APIClient, query: dict[str, Any]) -> None:
    answer = acme_client.get(f"{DATASETS}/{filled(acme_client)}/preview", query)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == next(iter(query))


def test_there_is_nothing_to_see_before_an_upload(acme_client: APIClient) -> None:
    answer = acme_client.get(f"{DATASETS}/{create(acme_client)}/preview")
    assert answer.status_code == 409
    assert "no content yet" in answer.json()["detail"]


def test_only_items_of_the_data_set_are_drawn(acme_client: APIClient) -> None:
    dataset, other = filled(acme_client), filled(acme_client, "other", first=50)
    foreign = look(acme_client, other)["splits"]["train"][0]["sha256"]
    assert acme_client.get(f"{DATASETS}/{other}/items/{foreign}/thumbnail").status_code == 200
    for name in (foreign, "../../etc/passwd", "0" * 64):
        assert acme_client.get(f"{DATASETS}/{dataset}/items/{name}/thumbnail").status_code == 404
    assert acme_client.get(f"{DATASETS}/{other}/items/{foreign}/waveform").status_code == 409


def page(operator: Client, dataset: str) -> str:
    answer = operator.get(f"/admin/modelhub/dataset/{dataset}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_operator_reads_the_report_and_sees_pictures(acme_client: APIClient, admin_client: Client) -> None:
    dataset = create(acme_client)
    upload(acme_client, dataset, zips.packed(zips.good() | {"train/cat/bad.jpg": b"<script>"}))
    text = page(admin_client, dataset)
    assert "10 good, 1 left out; divided as given." in text
    assert "<code>train/cat/bad.jpg</code>" in text
    assert "<script>&#x27;" not in text.replace("&lt;script&gt;", "")
    [first, *_] = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert Image.open(io.BytesIO(base64.b64decode(first))).size == (16, 12)


def test_the_operator_sees_waveforms_rows_and_figures(acme_client: APIClient, admin_client: Client) -> None:
    speech = page(admin_client, uploaded(acme_client, "speech", zips.packed(recordings.good()))["id"])
    assert speech.count("data:image/svg+xml;base64,") == 9
    assert "vocabulary, most_frequent" in speech
    assert "histogram of seconds, train" in speech
    texts = page(admin_client, uploaded(acme_client, "text-classification", TEXTS.encode(), "text/csv", "t")["id"])
    assert "&lt;b&gt;text" in texts
    assert "<b>text" not in texts
    table = page(admin_client, uploaded(acme_client, "table", TABLE.encode(), "text/csv", "u")["id"])
    assert "<th>colour</th>" in table


def test_the_operators_page_stands_without_content_and_without_files(
    acme_client: APIClient, admin_client: Client, places: Any
) -> None:
    assert page(admin_client, create(acme_client, "empty"))
    rejected = create(acme_client, "rejected")
    upload(acme_client, rejected, b"no zip")
    assert "Cannot be used" in page(admin_client, rejected)
    lost = filled(acme_client, "lost")
    for name in stored_files(places):
        next((places / "files").rglob(name)).unlink()
    assert "The content cannot be read" in page(admin_client, lost)


def test_a_report_of_before_there_were_kinds_is_still_shown() -> None:
    old = {
        "splits": {"train": {"cat": 3}, "validation": {"cat": 1}},
        "good": 4, "bad": 0, "problems": [], "problems_left_out": 0, "warnings": [], "reasons": [],
    }  # fmt: skip
    assert "4 good, 0 left out" in str(dataset_pages.report(Dataset(report=old)))
