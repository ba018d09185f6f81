"""Every verb of the control API leaves a row in the audit trail, and the row says who, what, to what and from where."""

import pytest
from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import AuditEvent
from tests.conftest import Account
from tests.modelhub.places import places
from tests.test_permissions import ROUTES, Route, ask

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

READING = ("GET",)
# Routes that leave no row, each with its reason.
EXCEPTIONS = {
    ("POST", "/training-jobs/quote"): "it says what a job would cost, and makes none",
    ("POST", "/searches/quote"): "it says what a search would cost, and makes none",
    ("POST", "/evaluations/quote"): "it says what an evaluation would cost, and makes none",
    ("POST", "/batch-predictions/quote"): "it says what a job would cost, and makes none",
    ("PUT", "/datasets/{dataset_id}/uploads/{upload_id}/parts/{number}"): "there are thousands of a file; "
    "beginning and completing it leave theirs",
    (
        "POST",
        "/leaked-keys",
    ): "the text here is nobody's key; of one that is, tests/tenants/test_leaked_keys.py sees the row",
}


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method not in READING], ids=str)
def test_a_verb_leaves_a_row(route: Route, acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    with scoping.operator():
        things = route.things(acme)
    client = APIClient(REMOTE_ADDR="192.0.2.7", headers={"X-API-Key": acme.key, "User-Agent": "walker"})
    # `ask` undoes what it did, so what was recorded is noted as it is.
    recorded: list[AuditEvent] = []
    create = AuditEvent.objects.create
    monkeypatch.setattr(AuditEvent.objects, "create", lambda **values: recorded.append(create(**values)))
    answer = ask(client, route, things)
    assert answer.status_code == route.status, answer.content
    if (route.method, route.path) in EXCEPTIONS:
        assert not recorded, "no exception any more: take it from the list"
        return
    assert recorded, "no row in the audit trail"
    for row in recorded:
        assert row.tenant_id == acme.tenant.pk
        assert row.actor.startswith("key:")
        assert "." in row.verb
        assert row.subject
        assert (row.address, row.user_agent) == ("192.0.2.7", "walker")
        assert row.request_id == answer["X-Request-Id"]


def test_the_exceptions_are_routes_that_there_are() -> None:
    assert set(EXCEPTIONS) <= {(route.method, route.path) for route in ROUTES}
