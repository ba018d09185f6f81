"""How long a training is likely to take, where its recipe does not say how many rows a step has."""

import pytest

from modelhub import recipes, training_requests
from modelhub.models import Dataset
from modelhub.recipes.base import checked
from modelhub.training_requests import Wanted
from tenants import scoping
from tests.conftest import Account


@pytest.mark.parametrize("steps", [None, 5])
def test_a_translator_is_quoted_whether_its_steps_are_bounded_or_not(
    steps: int | None, acme: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_requests, "rows_of", lambda items: 1000)
    monkeypatch.setattr("modelhub.datasets.load_manifest", lambda dataset: type("M", (), {"of": lambda self, _: ()})())
    parameters = checked(recipes.get("translator").parameters, {"steps_per_epoch": steps})
    wanted = Wanted(Dataset(), "spanish", "translator", parameters, None)
    with scoping.tenant(acme.tenant.pk):
        seconds, words = training_requests.likely_seconds(tenant=acme.tenant, wanted=wanted)
    assert seconds is None
    assert words.startswith("There is no expected figure" if steps is None else "The recipe translator does not say")
