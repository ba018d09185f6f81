"""Drawings: well-formed whatever strangers call their things, and saying in words what they show."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from modelhub import charts, training
from modelhub.models import Model, ModelVersion, TrainingJob
from tenants import scoping
from tests.conftest import Account
from tests.modelhub.places import places
from tests.modelhub.test_training import JOBS, queued, surely_claimed
from tests.test_permissions import MANIFEST

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

# A machine that is busy takes its time.
QUICK = settings(max_examples=40, deadline=None)
SVG = "{http://www.w3.org/2000/svg}"
STRANGE = st.text(max_size=40) | st.sampled_from(["</text><script>", "\x00\x0b", "a\u202eb", "'\"&<>", "]]>"])
NUMBERS = st.floats(width=32) | st.none() | st.integers(-(10**9), 10**9)
HISTORY = st.lists(st.dictionaries(STRANGE | st.sampled_from(["loss", "val_loss"]), NUMBERS, max_size=5), max_size=6)


def read(drawing: str) -> ET.Element:
    """The drawing, parsed; it has neither script nor anything that is loaded from elsewhere."""
    root = ET.fromstring(drawing)
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in (
            "svg", "title", "desc", "style", "rect", "text", "path", "polyline", "circle", "g", "image",
        )  # fmt: skip
        assert not any(name.startswith("on") for name in element.attrib)
        assert element.get("href", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "t d")
    return root


def words(root: ET.Element) -> str:
    return " ".join(element.text or "" for element in root.iter(f"{SVG}text"))


@QUICK
@given(history=HISTORY, title=STRANGE)
def test_curves_can_always_be_read(history: list[dict[str, Any]], title: str) -> None:
    read(charts.curves(history, title=title, best_epoch=1))


@QUICK
@given(labels=st.lists(STRANGE, min_size=1, max_size=40), seed=st.integers(0, 9))
def test_a_confusion_matrix_can_always_be_read(labels: list[str], seed: int) -> None:
    matrix = [[(row * column + seed) % 7 * 10**seed for column in range(len(labels))] for row in range(len(labels))]
    read(charts.confusion({"labels": labels, "matrix": matrix}, title="t"))


@QUICK
@given(rows=st.lists(st.fixed_dictionaries({"name": STRANGE, "truth": STRANGE, "answer": STRANGE, "picture": STRANGE})))
def test_mistakes_can_always_be_read(rows: list[dict[str, Any]]) -> None:
    read(charts.mistakes(rows, title="t"))


def test_curves_show_training_beside_validation_and_the_best_epoch() -> None:
    history = [
        {"epoch": n, "loss": 1 / n, "val_loss": 1.5 / n, "val_accuracy": n / 10, "seconds": 9.0, "rows_per_second": 1.0}
        for n in range(1, 6)
    ]
    root = read(charts.curves(history, title="job", best_epoch=4))
    assert [len((line.get("points") or "").split()) for line in root.iter(f"{SVG}polyline")] == [5, 5, 5]
    text = words(root)
    for word in ("loss", "val_loss", "val_accuracy", "best: 4", "epoch"):
        assert word in text
    assert "seconds" not in text
    (description,) = root.iter(f"{SVG}desc")
    assert "val_loss: 1.5 to 0.3" in (description.text or "")


def test_a_value_that_is_no_number_is_a_gap() -> None:
    root = read(charts.curves([{"loss": 1.0}, {"loss": None}, {"loss": float("nan")}, {"loss": 0.5}], title="job"))
    (line,) = root.iter(f"{SVG}polyline")
    assert len((line.get("points") or "").split()) == 2


def test_a_confusion_matrix_says_what_is_mistaken_for_what() -> None:
    root = read(charts.confusion({"labels": ["cat", "dog"], "matrix": [[8, 2], [0, 10]]}, title="cats@1"))
    (description,) = root.iter(f"{SVG}desc")
    assert description.text == "18 of 20 rows lie on the diagonal. Most often wrong: cat answered as dog 2 times."
    shades = [float(cell.get("fill-opacity") or 0) for cell in root.iter(f"{SVG}rect") if cell.get("class") == "cell"]
    assert shades == [0.8, 0.2, 0.0, 1.0]


def test_many_classes_are_drawn_without_names_and_too_many_in_words() -> None:
    labels = [f"class {n}" for n in range(77)]
    matrix = [[int(row == column) for column in range(77)] for row in range(77)]
    assert "class 5" not in words(read(charts.confusion({"labels": labels, "matrix": matrix}, title="t")))
    many = read(charts.confusion({"labels": ["x"] * 500, "matrix": []}, title="t"))
    assert "500 classes are too many to draw" in words(many)


def test_a_jobs_curves_are_drawn_in_api_and_admin(acme_client: APIClient, admin_client: Client) -> None:
    job = queued(acme_client)
    path = f"{JOBS}/{job}/curves.svg"
    assert "There are no epochs to draw yet." in acme_client.get(path).content.decode()
    hold = surely_claimed()
    with scoping.operator():
        training.report(hold=hold, progress={}, history=[{"epoch": 1, "loss": 0.5, "val_loss": 0.25}], lines=[])
    answer = acme_client.get(path)
    assert answer["Content-Type"] == "image/svg+xml; charset=utf-8"
    assert "val_loss" in words(read(answer.content.decode()))
    page = admin_client.get(f"/admin/modelhub/trainingjob/{job}/change/").content
    assert page.count(b"data:image/svg+xml;base64,") == 1


def test_the_best_epoch_is_the_monitored_metrics() -> None:
    job = TrainingJob(history=[{"m": 0.1}, {"m": None}, {"m": 0.9}, {"m": 0.9}, {"m": 0.2}])
    job.monitor = {"name": "m", "higher_is_better": True}
    assert training.best_epoch(job) == 3
    job.monitor = {"name": "m", "higher_is_better": False}
    assert training.best_epoch(job) == 1
    job.monitor = {"name": "other", "higher_is_better": False}
    assert training.best_epoch(job) is None


def test_a_versions_confusion_matrix_is_drawn_in_api_and_admin(
    acme: Account, acme_client: APIClient, admin_client: Client
) -> None:
    matrix = {"labels": ["cat", "<i>dog"], "rows_are": "truth", "matrix": [[1, 0], [0, 1]]}
    with scoping.operator():
        model = Model.objects.create(tenant=acme.tenant, name="cats", latest=2)
        serving = MANIFEST | {"serving": {"file": "x"}}
        drawn = ModelVersion.objects.create(
            tenant=acme.tenant, model=model, number=1, manifest=serving, metrics={"confusion_matrix": matrix}
        )
        ModelVersion.objects.create(tenant=acme.tenant, model=model, number=2, manifest=serving)
    answer = acme_client.get("/api/v1/models/cats/versions/1/confusion.svg")
    assert "<i>dog" in words(read(answer.content.decode()))
    assert acme_client.get("/api/v1/models/cats/versions/2/confusion.svg").status_code == 404
    page = admin_client.get(f"/admin/modelhub/modelversion/{drawn.pk}/change/").content
    assert page.count(b"data:image/svg+xml;base64,") == 1
