"""Versions of a model side by side."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from modelhub import evaluations
from modelhub.models import ModelVersion
from tenants import scoping
from tests.conftest import Account
from tests.modelhub import bright
from tests.modelhub.places import places
from tests.modelhub.test_evaluations import RESULT, asked, claimed, sealed

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

COMPARE = "/api/v1/models/light/compare"


@pytest.fixture
def versions(acme: Account, tmp_path: Path) -> list[ModelVersion]:
    return [
        bright.published(acme, tmp_path, parameters={"epochs": 5, "seed": seed}, metrics=metrics)
        for seed, metrics in enumerate(({"accuracy": 0.5, "macro": {"f1": 0.4}}, {"accuracy": 0.75, "loss": 0.1}))
    ]


def evaluated(client: APIClient, dataset: str, accuracy: float, **changes: Any) -> str:
    evaluation = asked(client, dataset, **changes)
    hold = claimed()
    assert hold is not None
    result = RESULT | {"metrics": {"accuracy": accuracy}}
    with scoping.operator():
        evaluations.succeed(hold=hold, seconds=Decimal(1), result=result, mistakes=[], now=timezone.now())
    return evaluation


def compared(client: APIClient, numbers: str) -> Any:
    answer = client.get(COMPARE, {"versions": numbers})
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_figures_stand_in_the_order_that_was_asked_for(acme_client: APIClient, versions: list[ModelVersion]) -> None:
    found = compared(acme_client, "2,1")
    assert [version["number"] for version in found["versions"]] == [2, 1]
    assert found["metrics"] == {"accuracy": [0.75, 0.5], "loss": [0.1, None], "macro.f1": [None, 0.4]}
    assert found["parameters"] == {"seed": [1, 0]}
    assert found["same_dataset"] is False
    assert found["evaluations"] == []


def test_the_newest_evaluations_on_the_same_data_stand_side_by_side(
    acme_client: APIClient, versions: list[ModelVersion]
) -> None:
    dataset = sealed(acme_client)
    evaluated(acme_client, dataset, 0.1)
    first = evaluated(acme_client, dataset, 0.6)
    second = evaluated(acme_client, dataset, 0.8, version=2)
    alone = evaluated(acme_client, dataset, 0.9, version=2, split="train")
    both, one = compared(acme_client, "1,2")["evaluations"]
    assert both == {
        "dataset": dataset,
        "dataset_name": "lights",
        "split": "validation",
        "evaluations": [first, second],
        "metrics": {"accuracy": [0.6, 0.8]},
    }
    assert (one["split"], one["evaluations"], one["metrics"]) == ("train", [None, alone], {"accuracy": [None, 0.9]})


@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        ("", 400),
        ("1,1", 400),
        ("1,", 400),
        ("a", 400),
        ("1;2", 400),
        (",".join(map(str, range(1, 12))), 400),
        ("9", 404),
    ],
)
def test_what_cannot_be_compared_is_refused(
    acme_client: APIClient, versions: list[ModelVersion], numbers: str, status: int
) -> None:
    assert acme_client.get(COMPARE, {"versions": numbers}).status_code == status


def test_anothers_versions_are_not_there(globex_client: APIClient, versions: list[ModelVersion]) -> None:
    assert globex_client.get(COMPARE, {"versions": "1"}).status_code == 404


def test_an_operator_compares_versions_of_one_tenant(
    acme_client: APIClient, globex: Account, versions: list[ModelVersion], admin_client: Client, tmp_path: Path
) -> None:
    evaluated(acme_client, sealed(acme_client), 0.625)
    pages = "/admin/modelhub/modelversion/"
    chosen = {"action": "compare", "_selected_action": [version.pk for version in versions]}
    page = admin_client.post(pages, chosen, follow=True).content.decode()
    for words in ("light@1", "light@2", "0.75", "evaluated on lights, validation", "0.625", "seed"):
        assert words in page
    other = bright.published(globex, tmp_path)
    chosen["_selected_action"] = [versions[0].pk, other.pk]
    page = admin_client.post(pages, chosen, follow=True).content.decode()
    assert "Expected from 1 to 10 versions of one tenant." in page
