"""Deployments over the control API and in the admin."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from inference import deployments
from inference.models import Deployment, DeploymentTarget
from modelhub.models import Model, ModelVersion
from tenants import scoping
from tenants.errors import Conflict
from tenants.models import AuditEvent, Notice
from tests.conftest import Account

PATH = "/api/v1/deployments"


@pytest.fixture
def versions(acme: Account) -> None:
    with scoping.operator():
        for name in ("cats", "birds"):
            model = Model.objects.create(tenant=acme.tenant, name=name, latest=2)
            for number in (1, 2):
                ModelVersion.objects.create(tenant=acme.tenant, model=model, number=number, manifest={})


@pytest.mark.usefixtures("versions")
def test_a_deployment_is_made_seen_pointed_and_deleted(acme: Account, acme_client: APIClient) -> None:
    made = acme_client.post(PATH, {"name": "front", "model": "cats", "version": 1}, format="json")
    assert made.status_code == 201
    assert {"name": "front", "model": "cats", "version": 1}.items() <= made.json().items()
    assert made.json()["id"].startswith("dep_")

    pointed = acme_client.patch(f"{PATH}/front", {"version": 2}, format="json")
    assert (pointed.status_code, pointed.json()["model"], pointed.json()["version"]) == (200, "cats", 2)
    other = acme_client.patch(f"{PATH}/front", {"model": "birds", "version": 1}, format="json")
    assert (other.json()["model"], other.json()["version"]) == ("birds", 1)
    assert acme_client.get(f"{PATH}/front").json() == other.json()
    assert acme_client.get(f"{PATH}?model=birds&version=1").json()["results"] == [other.json()]
    assert acme_client.get(f"{PATH}?model=cats").json()["results"] == []

    assert acme_client.delete(f"{PATH}/front").status_code == 204
    assert acme_client.get(f"{PATH}/front").status_code == 404
    with scoping.tenant(acme.tenant.pk):
        verbs = AuditEvent.objects.for_tenant(acme.tenant).filter(subject="front").order_by("id")
        assert [event.verb for event in verbs] == [
            "deployment.create", "deployment.point", "deployment.point", "deployment.delete",
        ]  # fmt: skip


@pytest.mark.usefixtures("versions")
def test_a_name_that_is_taken_is_a_conflict(acme_client: APIClient, globex_client: APIClient) -> None:
    body = {"name": "front", "model": "cats", "version": 1}
    assert acme_client.post(PATH, body, format="json").status_code == 201
    again = acme_client.post(PATH, body, format="json")
    assert (again.status_code, "PATCH" in again.json()["detail"]) == (409, True)
    # Another tenant's name is its own, and so are its models.
    foreign = globex_client.post(PATH, body, format="json")
    assert (foreign.status_code, foreign.json()["errors"][0]["field"]) == (400, "version")


@pytest.mark.usefixtures("versions")
def test_a_retry_with_the_same_key_makes_one(acme_client: APIClient) -> None:
    answers = [
        acme_client.post(
            PATH, {"name": "front", "model": "cats", "version": 1}, format="json", headers={"Idempotency-Key": "a"}
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": "Front"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 61}, "name"),
        ({"version": 0}, "version"),
        ({"version": 3}, "version"),
        ({"version": "one"}, "version"),
        ({"version": 10**30}, "version"),
        ({"model": "dogs"}, "version"),
        ({"shadow": 1}, "shadow"),
    ],
)
def test_bad_input_names_the_field(acme_client: APIClient, changed: dict[str, object], field: str) -> None:
    answer = acme_client.post(PATH, {"name": "front", "model": "cats", "version": 1} | changed, format="json")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert acme_client.get(PATH).json()["results"] == []


@pytest.mark.usefixtures("versions")
def test_the_operator_sees_and_ends_deployments(acme: Account, acme_client: APIClient) -> None:
    acme_client.post(PATH, {"name": "front", "model": "cats", "version": 1}, format="json")
    User.objects.create_superuser("operator", password="correct-horse-battery")
    browser = Client()
    browser.login(username="operator", password="correct-horse-battery")
    listed = browser.get("/admin/inference/deployment/?q=front")
    assert (listed.status_code, b"cats@1" in listed.content) == (200, True)
    with scoping.operator():
        row = Deployment.across_tenants.get()
    assert browser.get(f"/admin/inference/deployment/{row.pk}/change/").status_code == 200
    assert browser.post(f"/admin/inference/deployment/{row.pk}/change/", {"name": "x"}).status_code == 403
    browser.post("/admin/inference/deployment/", {"action": "delete_deployments", "_selected_action": [row.pk]})
    with scoping.operator():
        assert not Deployment.across_tenants.exists()
        assert AuditEvent.across_tenants.get(verb="deployment.delete").actor == "operator:operator"


@pytest.mark.usefixtures("versions")
def test_the_operator_pauses_resumes_and_rolls_back(acme_client: APIClient) -> None:
    acme_client.post(PATH, {"name": "front", "model": "cats", "version": 1}, format="json")
    targets = [{"version": 1, "weight": 80}, {"version": 2, "weight": 20}]
    assert acme_client.patch(f"{PATH}/front", {"targets": targets}, format="json").status_code == 200
    User.objects.create_superuser("operator", password="correct-horse-battery")
    browser = Client()
    browser.login(username="operator", password="correct-horse-battery")
    with scoping.operator():
        row = Deployment.across_tenants.get()
    page = browser.get(f"/admin/inference/deployment/{row.pk}/change/")
    assert (page.status_code, b"cats@2" in page.content) == (200, True)
    assert b"cats@2: 20 %" in browser.get("/admin/inference/deployment/").content

    def carry_out(action: str) -> str:
        asked = {"action": action, "_selected_action": [row.pk]}
        return browser.post("/admin/inference/deployment/", asked, follow=True).content.decode()

    assert "No longer answering: front" in carry_out("pause_deployments")
    assert acme_client.get(f"{PATH}/front").json()["paused"] is True
    assert "Answering again: front" in carry_out("resume_deployments")
    assert "Rolled back: front" in carry_out("roll_back_deployments")
    shown = acme_client.get(f"{PATH}/front").json()
    assert (shown["paused"], [one["version"] for one in shown["targets"]]) == (False, [1])
    assert "no version before" in carry_out("roll_back_deployments")


@pytest.mark.usefixtures("versions")
def test_a_roll_back_that_comes_too_late_changes_nothing(acme: Account, acme_client: APIClient) -> None:
    acme_client.post(PATH, {"name": "front", "model": "cats", "version": 1}, format="json")
    about: dict[str, Any] = {
        "tenant": acme.tenant,
        "name": "front",
        "actor": "system:auto-rollback",
        "now": timezone.now(),
    }
    with scoping.tenant(acme.tenant.pk):
        second = ModelVersion.objects.for_tenant(acme.tenant).get(model__name="cats", number=2)
        deployments.point(**about, model=None, number=2)
        deployments.roll_back(**about, expected=second.pk, reason="p99 of 80 ms above 50 ms")
        with pytest.raises(Conflict, match="changed meanwhile"):
            deployments.roll_back(**about, expected=second.pk)
        event = AuditEvent.objects.for_tenant(acme.tenant).get(verb="deployment.roll_back")
        assert (event.actor, event.detail["after"]) == ("system:auto-rollback", "cats@1")
        assert event.detail["reason"] == "p99 of 80 ms above 50 ms"
        (notice,) = Notice.objects.for_tenant(acme.tenant)
        assert notice.kind == "deployment.rolled_back"
        assert notice.data == {
            "deployment": "front", "before": ["cats@2"], "after": "cats@1", "reason": "p99 of 80 ms above 50 ms"
        }  # fmt: skip
        deployments.point(**about, model=None, number=2)
        deployments.roll_back(**(about | {"actor": "member:owner@acme.example"}))
        assert Notice.objects.for_tenant(acme.tenant).count() == 1, "who rolls back himself is not told of it"


@pytest.mark.usefixtures("versions")
def test_the_database_itself_keeps_the_shares_below_100_and_versions_in_use(
    acme: Account, acme_client: APIClient
) -> None:
    acme_client.post(PATH, {"name": "front", "model": "cats", "version": 1}, format="json")
    with scoping.operator():
        row = Deployment.across_tenants.get()
        others = list(ModelVersion.across_tenants.exclude(pk=row.version_id)[:2])
        DeploymentTarget.objects.create(tenant=acme.tenant, deployment=row, version=others[0], weight=50)
        connection.cursor().execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(IntegrityError, match="more than 99 percent"), transaction.atomic():
            DeploymentTarget.objects.create(tenant=acme.tenant, deployment=row, version=others[1], weight=50)
        deployments.shadow(
            tenant=acme.tenant, name="front", model=None, number=2, actor="operator:test", now=timezone.now()
        )
        with pytest.raises(ProtectedError):
            ModelVersion.across_tenants.get(model__name="cats", number=2).delete()
