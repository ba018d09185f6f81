"""Every route of the control API by every kind of caller. A route without a row here fails the test.

To add a route, add a row to ROUTES: method, path, the scopes of which one is enough, what it answers when allowed, and
for a path that names something of a tenant, a function that makes that thing and gives the path's values.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import transaction
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from inference.models import BatchPrediction, Deployment, DeploymentLabel, DeploymentTarget
from modelhub import datasets, storage
from modelhub.models import Dataset, Evaluation, Model, ModelVersion, Search, TrainingJob
from tenants import accounts, scoping
from tenants.invoicing import closing, credit
from tenants.keys import api_keys
from tenants.limits import quota_limits, spend_caps
from tenants.models import Notice, Price, Tenant, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from tests.conftest import Account
from tests.modelhub import recordings, zips
from tests.modelhub.places import places

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

PREFIX = "/api/v1"
ANYBODY_OF_THE_TENANT = ("predict", "read", "manage", "billing")
Things = dict[str, str]


def nothing(account: Account) -> Things:
    return {}


def a_key(account: Account) -> Things:
    new = api_keys.create(tenant=account.tenant, name="spare", scopes=["read"], actor="test", now=timezone.now())
    return {"key_id": new.row.pk}


def a_managing_key(account: Account) -> Things:
    """What it may do is all that the caller must have: who rotates it gets it."""
    new = api_keys.create(tenant=account.tenant, name="spare", scopes=["manage"], actor="test", now=timezone.now())
    return {"key_id": new.row.pk}


def a_keys_text(account: Account) -> Things:
    return {"text": api_keys.draw()}


def a_quota_limit(account: Account) -> Things:
    row = quota_limits.put(
        tenant=account.tenant, scope="tenant", meter="predictions", period="day", limit=100, set_by="tenant",
        actor="test", now=timezone.now(),
    )  # fmt: skip
    return {"limit_id": row.pk}


def a_spend_cap(account: Account) -> Things:
    """Each of both accounts has one, so that globex too finds one to remove."""
    for tenant in Tenant.objects.all():
        spend_caps.put(tenant=tenant, amount="10", set_by="tenant", actor="test")
    return {}


def this_month(account: Account) -> Things:
    return {"invoice_id": f"{timezone.now():%Y-%m}"}


def an_invoice(account: Account) -> Things:
    Tenant.objects.filter(pk=account.tenant.pk).update(created_at=datetime(2026, 9, 30, tzinfo=UTC))
    Price.objects.create(plan_id="standard", model="flat", valid_from=date(2026, 1, 1), amount=9, unit="month")
    tenant = accounts.get_tenant(name=account.tenant.name)
    done = closing.close(month=date(2026, 9, 1), tenant=tenant, actor="test", now=timezone.now())
    return {"invoice_id": done.first}


def a_credit(account: Account) -> Things:
    entry = credit.grant(
        tenant=account.tenant, amount=5, currency="EUR", expires_at=None, reason="", actor="test", now=timezone.now()
    )
    return {"entry": entry.pk}


def a_dataset(account: Account, state: str = "created") -> Things:
    row = Dataset.objects.create(tenant=account.tenant, name=f"set-{state}", kind="image-classification", state=state)
    return {"dataset_id": row.pk}


def a_sealed_dataset(account: Account) -> Things:
    """With pictures in it, by the way that a customer goes."""
    client = APIClient(headers={"X-API-Key": account.key})
    path = f"{PREFIX}/datasets/{a_dataset(account)['dataset_id']}"
    assert client.put(f"{path}/content", zips.packed(zips.good()), content_type="application/zip").status_code == 200
    sealed = client.post(f"{path}/seal")
    assert sealed.status_code == 200
    return {"dataset_id": sealed.json()["id"]}


def a_picture(account: Account) -> Things:
    return _first_item(account, a_sealed_dataset(account)["dataset_id"])


def a_recording(account: Account) -> Things:
    client = APIClient(headers={"X-API-Key": account.key})
    dataset_id = client.post(f"{PREFIX}/datasets", {"name": "calls", "kind": "speech"}, format="json").json()["id"]
    body = zips.packed(recordings.good())
    answer = client.put(f"{PREFIX}/datasets/{dataset_id}/content", body, content_type="application/zip")
    assert answer.status_code == 200, answer.content
    return _first_item(account, dataset_id)


def _first_item(account: Account, dataset_id: str) -> Things:
    manifest = datasets.load_manifest(datasets.get(tenant=account.tenant, dataset_id=dataset_id))
    return {"dataset_id": dataset_id, "sha256": manifest.items[0].sha256}


def a_checked_dataset(account: Account) -> Things:
    return a_dataset(account, "checked")


def an_upload(account: Account) -> Things:
    """In parts, with the first of them there; nothing has been stored yet."""
    client, body = APIClient(headers={"X-API-Key": account.key}), zips.packed(zips.good())
    found = a_dataset(account)
    path = f"{PREFIX}/datasets/{found['dataset_id']}/uploads"
    made = client.post(path, {"length": len(body), "media_type": "application/zip"}, format="json")
    assert made.status_code == 201, made.content
    return found | {"upload_id": made.json()["id"]}


def a_whole_upload(account: Account) -> Things:
    found = an_upload(account)
    path = f"{PREFIX}/datasets/{found['dataset_id']}/uploads/{found['upload_id']}/parts/1"
    client = APIClient(headers={"X-API-Key": account.key})
    sent = client.put(path, zips.packed(zips.good()), content_type="application/octet-stream")
    assert sent.status_code == 200, sent.content
    return found


def a_job_with_data(account: Account) -> Things:
    """One whose data set can be learned from again."""
    row = TrainingJob.objects.create(
        tenant=account.tenant,
        dataset_id=a_sealed_dataset(account)["dataset_id"],
        model_name="acmes-cats",
        recipe="image-classifier",
        created_by="test",
    )
    return {"job_id": row.pk}


def a_job(account: Account) -> Things:
    row = TrainingJob.objects.create(
        tenant=account.tenant,
        dataset_id=a_dataset(account, "sealed")["dataset_id"],
        model_name="acmes-cats",
        recipe="image-classifier",
        created_by="test",
    )
    return {"job_id": row.pk}


def a_search(account: Account) -> Things:
    row = Search.objects.create(
        tenant=account.tenant,
        dataset_id=a_dataset(account, "sealed")["dataset_id"],
        model_name="acmes-cats",
        recipe="image-classifier",
        space={"epochs": [1]},
        method="grid",
        created_by="test",
    )
    TrainingJob.objects.create(
        tenant=account.tenant, dataset_id=row.dataset_id, model_name="acmes-cats", recipe="image-classifier",
        search=row, created_by="test",
    )  # fmt: skip
    return {"search_id": row.pk}


def a_picture_version_and_a_dataset(account: Account) -> Things:
    """A version whose recipe reads what is in the data set."""
    things = a_sealed_dataset(account)
    model = Model.objects.create(tenant=account.tenant, name=f"{account.tenant.name}s-lights", latest=1)
    ModelVersion.objects.create(
        tenant=account.tenant, model=model, number=1, recipe="image-classifier", manifest=MANIFEST
    )
    return things | {"name": model.name}


def an_evaluation(account: Account) -> Things:
    things = a_version(account)
    row = Evaluation.objects.create(
        tenant=account.tenant,
        version=ModelVersion.across_tenants.get(model__name=things["name"]),
        dataset_id=a_dataset(account, "sealed")["dataset_id"],
        created_by="test",
    )
    return {"evaluation_id": row.pk}


def an_evaluation_that_is_done(account: Account) -> Things:
    found = an_evaluation(account)
    Evaluation.across_tenants.filter(pk=found["evaluation_id"]).update(state="succeeded", result={"metrics": {}})
    return found


def a_version_with_a_confusion_matrix(account: Account) -> Things:
    model = Model.objects.create(tenant=account.tenant, name=f"{account.tenant.name}s-cats", latest=1)
    metrics = {"confusion_matrix": {"labels": ["a"], "matrix": [[1]]}}
    ModelVersion.objects.create(tenant=account.tenant, model=model, number=1, manifest=MANIFEST, metrics=metrics)
    return {"name": model.name, "number": "1"}


MANIFEST = {
    "files": {},
    "serving": {},
    "signature": {"inputs": [], "outputs": []},
    "preprocessing": {},
    "labels": [],
    "decision": {},
    "conversion": {},
}


def a_version(account: Account) -> Things:
    model = Model.objects.create(tenant=account.tenant, name=f"{account.tenant.name}s-cats", latest=1)
    ModelVersion.objects.create(tenant=account.tenant, model=model, number=1, manifest=MANIFEST)
    return {"name": model.name, "number": "1"}


def a_model(account: Account) -> Things:
    return {"name": a_version(account)["name"]}


def a_deployment(account: Account) -> Things:
    version = ModelVersion.across_tenants.get(model__name=a_version(account)["name"])
    Deployment.objects.create(tenant=account.tenant, name=f"{account.tenant.name}s-own", version=version)
    return {"name": f"{account.tenant.name}s-own"}


def a_paused_deployment(account: Account) -> Things:
    things = a_deployment(account)
    Deployment.across_tenants.filter(name=things["name"]).update(paused=True)
    return things


def a_split_deployment(account: Account) -> Things:
    things = a_deployment(account)
    row = Deployment.across_tenants.get(name=things["name"])
    other = ModelVersion.objects.create(tenant=account.tenant, model=row.version.model, number=2, manifest=MANIFEST)
    DeploymentTarget.objects.create(tenant=account.tenant, deployment=row, version=other, weight=10)
    return things


def a_labelled_deployment(account: Account) -> Things:
    things = a_deployment(account)
    row = Deployment.across_tenants.get(name=things["name"])
    DeploymentLabel.objects.create(tenant=account.tenant, deployment=row, name="acmes-stable", version=row.version)
    return things | {"label": "acmes-stable"}


def a_deployment_and_a_dataset(account: Account) -> Things:
    """A deployment whose model takes what is in the data set."""
    model = Model.objects.create(tenant=account.tenant, name=f"{account.tenant.name}s-pets", latest=1)
    version = ModelVersion.objects.create(
        tenant=account.tenant, model=model, number=1, recipe="image-classifier", manifest=MANIFEST
    )
    Deployment.objects.create(tenant=account.tenant, name=f"{account.tenant.name}s-pets", version=version)
    return {"deployment": f"{account.tenant.name}s-pets"} | a_dataset(account, "sealed")


def a_batch(account: Account) -> Things:
    names = a_deployment_and_a_dataset(account)
    row = BatchPrediction.objects.create(
        tenant=account.tenant,
        deployment_name=names["deployment"],
        version=ModelVersion.across_tenants.get(model__name=names["deployment"]),
        dataset_id=names["dataset_id"],
        rows_total=1,
        created_by="test",
    )
    return {"job_id": row.pk}


def a_batch_with_results(account: Account) -> Things:
    found = a_batch(account)
    blob = storage.put(tenant_id=account.tenant.pk, source=b"{}\n", now=timezone.now())
    BatchPrediction.across_tenants.filter(pk=found["job_id"]).update(
        state="succeeded", result_sha256=blob.sha256, result_size=blob.size
    )
    return found


INVOICE = "invoice.issued"


def an_endpoint(account: Account) -> Things:
    row = WebhookEndpoint.objects.create(
        tenant=account.tenant, url=f"https://{account.tenant.name}.example/hook", kinds=[INVOICE], seed=b"0" * 32
    )
    return {"endpoint_id": row.pk}


def a_delivery(account: Account) -> Things:
    notice = Notice.objects.create(tenant=account.tenant, kind=INVOICE, once=account.tenant.name)
    row = WebhookDelivery.objects.create(
        tenant=account.tenant,
        endpoint=WebhookEndpoint.across_tenants.get(pk=an_endpoint(account)["endpoint_id"]),
        notice=notice,
        state="failed",
        ended_at=timezone.now(),
    )
    WebhookAttempt.objects.create(
        tenant=account.tenant, delivery=row, at=timezone.now(), duration_ms=1, error=f"{account.tenant.name} is away"
    )
    return {"delivery_id": row.pk}


@dataclass(frozen=True)
class Route:
    """`things` runs in operator scope. `shared`: the path's values name nothing of one tenant, as a month does.

    `body` is sent as JSON, its `{names}` filled in from the things, or, if it is bytes, as `content_type`.
    `missing` gives values that name nothing. `theirs` is what globex is answered where a body names acme's things.
    What is `public` needs no key.
    """

    method: str
    path: str
    scopes: tuple[str, ...] | str
    status: int = 200
    things: Callable[[Account], Things] = nothing
    body: Any = None
    content_type: str = "application/zip"
    shared: bool = False
    missing: Things = field(default_factory=dict)
    theirs: int = 0
    public: bool = False
    query: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


ROUTES = [
    Route("GET", "/me", ANYBODY_OF_THE_TENANT),
    Route("GET", "/api-keys", "manage", things=a_key),
    Route("POST", "/api-keys", "manage", 201, body={"name": "new", "scopes": ["manage"]}),
    Route("GET", "/api-keys/{key_id}", "manage", things=a_key),
    Route("DELETE", "/api-keys/{key_id}", "manage", things=a_key),
    Route("POST", "/api-keys/{key_id}/rotate", "manage", 201, things=a_managing_key, body={}),
    Route("POST", "/leaked-keys", ANYBODY_OF_THE_TENANT, 202, things=a_keys_text, body={"key": "{text}"}, public=True),
    Route("GET", "/datasets", "read", things=a_dataset),
    Route("POST", "/datasets", "manage", 201, body={"name": "new", "kind": "image-classification"}),
    Route("GET", "/datasets/{dataset_id}", "read", things=a_dataset),
    Route("DELETE", "/datasets/{dataset_id}", "manage", 204, things=a_dataset),
    Route("PUT", "/datasets/{dataset_id}/content", "manage", things=a_dataset, body=zips.packed(zips.good())),
    Route("GET", "/datasets/{dataset_id}/preview", "read", things=a_sealed_dataset),
    Route("GET", "/datasets/{dataset_id}/items/{sha256}/thumbnail", "read", things=a_picture),
    Route("GET", "/datasets/{dataset_id}/items/{sha256}/waveform", "read", things=a_recording),
    Route("POST", "/datasets/{dataset_id}/seal", "manage", things=a_checked_dataset),
    Route("PATCH", "/datasets/{dataset_id}", "manage", things=a_dataset, body={"licence": "CC0-1.0"}),
    Route("GET", "/datasets/{dataset_id}/versions", "read", things=a_dataset),
    Route("POST", "/datasets/{dataset_id}/versions", "manage", 201, things=a_sealed_dataset, body={}),
    Route("GET", "/datasets/{dataset_id}/export", "read", things=a_sealed_dataset),
    Route("GET", "/datasets/{dataset_id}/uploads", "read", things=a_dataset),
    Route(
        "POST",
        "/datasets/{dataset_id}/uploads",
        "manage",
        201,
        things=a_dataset,
        body={"length": 10, "media_type": "application/zip"},
    ),
    Route("GET", "/datasets/{dataset_id}/uploads/{upload_id}", "read", things=an_upload),
    Route("DELETE", "/datasets/{dataset_id}/uploads/{upload_id}", "manage", 204, things=an_upload),
    Route(
        "PUT",
        "/datasets/{dataset_id}/uploads/{upload_id}/parts/{number}",
        "manage",
        things=lambda account: an_upload(account) | {"number": "1"},
        missing={"number": "1"},
        body=b"part",
        content_type="application/octet-stream",
    ),
    Route("POST", "/datasets/{dataset_id}/uploads/{upload_id}/complete", "manage", things=a_whole_upload),
    Route("GET", "/recipes", "read"),
    Route("GET", "/training-jobs", "read", things=a_job),
    Route(
        "POST",
        "/training-jobs",
        "manage",
        201,
        things=a_sealed_dataset,
        theirs=400,
        body={"dataset": "{dataset_id}", "model": "new", "recipe": "image-classifier", "parameters": {}},
    ),
    Route(
        "POST",
        "/training-jobs/quote",
        ("read", "manage"),
        things=a_sealed_dataset,
        theirs=400,
        body={"dataset": "{dataset_id}", "model": "new", "recipe": "image-classifier"},
    ),
    Route("GET", "/training-jobs/{job_id}", "read", things=a_job),
    Route("POST", "/training-jobs/{job_id}/cancel", "manage", things=a_job),
    Route("POST", "/training-jobs/{job_id}/retrain", "manage", 201, things=a_job_with_data, body={}),
    Route("GET", "/training-jobs/{job_id}/logs", "read", things=a_job),
    Route("GET", "/training-jobs/{job_id}/curves.svg", "read", things=a_job),
    Route("GET", "/searches", "read", things=a_search),
    Route(
        "POST",
        "/searches",
        "manage",
        201,
        things=a_sealed_dataset,
        theirs=400,
        body={"dataset": "{dataset_id}", "model": "new", "recipe": "image-classifier", "space": {"epochs": [1, 2]}},
    ),
    Route(
        "POST",
        "/searches/quote",
        ("read", "manage"),
        things=a_sealed_dataset,
        theirs=400,
        body={"dataset": "{dataset_id}", "model": "new", "recipe": "image-classifier", "space": {"epochs": [1]}},
    ),
    Route("GET", "/searches/{search_id}", "read", things=a_search),
    Route("POST", "/searches/{search_id}/cancel", "manage", things=a_search),
    Route("GET", "/evaluations", "read", things=an_evaluation),
    Route(
        "POST",
        "/evaluations",
        "manage",
        201,
        things=a_picture_version_and_a_dataset,
        theirs=400,
        body={"dataset": "{dataset_id}", "model": "{name}", "version": 1},
    ),
    Route(
        "POST",
        "/evaluations/quote",
        ("read", "manage"),
        things=a_picture_version_and_a_dataset,
        theirs=400,
        body={"dataset": "{dataset_id}", "model": "{name}", "version": 1},
    ),
    Route("GET", "/evaluations/{evaluation_id}", "read", things=an_evaluation),
    Route("POST", "/evaluations/{evaluation_id}/cancel", "manage", things=an_evaluation),
    Route(
        "GET",
        "/evaluations/{evaluation_id}/{drawing}.svg",
        "read",
        things=lambda account: an_evaluation_that_is_done(account) | {"drawing": "mistakes"},
        missing={"drawing": "mistakes"},
    ),
    Route("GET", "/models", "read", things=a_model),
    Route("GET", "/models/{name}", "read", things=a_model),
    Route("GET", "/models/{name}/versions", "read", things=a_model),
    Route("GET", "/models/{name}/versions/{number}", "read", things=a_version),
    Route("GET", "/models/{name}/versions/{number}/measurements", "read", things=a_version),
    Route(
        "GET",
        "/models/{name}/versions/{number}/confusion.svg",
        "read",
        things=a_version_with_a_confusion_matrix,
    ),
    Route("GET", "/models/{name}/compare", "read", things=a_model, query="?versions=1"),
    Route("GET", "/deployments", "read", things=a_deployment),
    Route(
        "POST",
        "/deployments",
        "manage",
        201,
        things=a_model,
        theirs=400,
        body={"name": "new", "model": "{name}", "version": 1},
    ),
    Route("GET", "/deployments/{name}", "read", things=a_deployment),
    Route("PATCH", "/deployments/{name}", "manage", things=a_deployment, body={"version": 1}),
    Route("DELETE", "/deployments/{name}", "manage", 204, things=a_deployment),
    Route("GET", "/deployments/{name}/statistics", "read", things=a_deployment),
    Route("POST", "/deployments/{name}/rollback", "manage", things=a_split_deployment),
    Route("POST", "/deployments/{name}/promote", "manage", things=a_split_deployment, body={}),
    Route("POST", "/deployments/{name}/pause", "manage", things=a_deployment),
    Route("POST", "/deployments/{name}/resume", "manage", things=a_paused_deployment),
    Route("PUT", "/deployments/{name}/labels/{label}", "manage", things=a_labelled_deployment, body={"version": 1}),
    Route("DELETE", "/deployments/{name}/labels/{label}", "manage", 204, things=a_labelled_deployment),
    Route("GET", "/batch-predictions", "read", things=a_batch),
    Route(
        "POST",
        "/batch-predictions",
        "manage",
        201,
        things=a_deployment_and_a_dataset,
        theirs=400,
        body={"deployment": "{deployment}", "dataset": "{dataset_id}"},
    ),
    Route(
        "POST",
        "/batch-predictions/quote",
        ("read", "manage"),
        things=a_deployment_and_a_dataset,
        theirs=400,
        body={"deployment": "{deployment}", "dataset": "{dataset_id}"},
    ),
    Route("GET", "/batch-predictions/{job_id}", "read", things=a_batch),
    Route("POST", "/batch-predictions/{job_id}/cancel", "manage", things=a_batch),
    Route("GET", "/batch-predictions/{job_id}/results", "read", things=a_batch_with_results),
    Route("GET", "/quotas", ("read", "billing")),
    Route("GET", "/quota-limits", "read", things=a_quota_limit),
    Route(
        "POST",
        "/quota-limits",
        "manage",
        201,
        things=a_key,
        theirs=400,
        body={"scope": "key:{key_id}", "period": "day", "limit": 5},
    ),
    Route("GET", "/quota-limits/{limit_id}", "read", things=a_quota_limit),
    Route("DELETE", "/quota-limits/{limit_id}", "manage", 204, things=a_quota_limit),
    Route("GET", "/spend-cap", ("read", "billing")),
    Route("PUT", "/spend-cap", "billing", body={"amount": "10.00"}),
    Route("DELETE", "/spend-cap", "billing", 204, things=a_spend_cap),
    Route("GET", "/usage", ("read", "billing")),
    Route("GET", "/audit-events", ("manage", "billing")),
    Route("GET", "/audit-events.csv", ("manage", "billing")),
    Route("GET", "/webhook-endpoints", "manage", things=an_endpoint),
    Route("POST", "/webhook-endpoints", "manage", 201, body={"url": "https://1.1.1.1/hook", "kinds": [INVOICE]}),
    Route("GET", "/webhook-endpoints/{endpoint_id}", "manage", things=an_endpoint),
    Route("PATCH", "/webhook-endpoints/{endpoint_id}", "manage", things=an_endpoint, body={"active": False}),
    Route("DELETE", "/webhook-endpoints/{endpoint_id}", "manage", 204, things=an_endpoint),
    Route("POST", "/webhook-endpoints/{endpoint_id}/rotate-secret", "manage", things=an_endpoint),
    Route("POST", "/webhook-endpoints/{endpoint_id}/test", "manage", 201, things=an_endpoint),
    Route(
        "POST",
        "/webhook-endpoints/{endpoint_id}/replay",
        "manage",
        things=an_endpoint,
        body={"since": "2026-01-01T00:00:00Z"},
    ),
    Route("GET", "/webhook-deliveries", "manage", things=a_delivery),
    Route("GET", "/webhook-deliveries/{delivery_id}", "manage", things=a_delivery),
    Route("GET", "/webhook-deliveries/{delivery_id}/attempts", "manage", things=a_delivery),
    Route("POST", "/webhook-deliveries/{delivery_id}/replay", "manage", things=a_delivery),
    Route("GET", "/invoices", "billing"),
    Route("GET", "/invoices/{invoice_id}", "billing", things=this_month, shared=True),
    Route("GET", "/invoices/{invoice_id}.pdf", "billing", things=an_invoice),
    Route("GET", "/invoices/{invoice_id}.csv", "billing", things=an_invoice),
    Route("GET", "/credit", "billing"),
    Route("GET", "/credit/entries", "billing", things=a_credit),
]


def names_things(route: Route) -> bool:
    """Whether a request of this route names something that belongs to one tenant."""
    return bool(route.theirs) or ("{" in route.path and not route.shared)


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_who_may(route: Route, acme: Account, globex: Account) -> None:
    with scoping.operator():
        things = route.things(acme)
    wrong = {}
    for caller, expected in {**insiders(route), **outsiders(route)}.items():
        client = client_for(caller, acme, globex)
        answer = ask(client, route, things)
        if answer.status_code != expected:
            wrong[caller] = f"expected {expected}, got {answer.status_code}: {answer.content[:200]!r}"
        if caller.startswith("globex") and not route.shared:
            assert not any(value in text_of(answer, things) for value in things.values()), f"{caller} sees {things}"
    assert not wrong


@pytest.mark.parametrize("route", [route for route in ROUTES if names_things(route)], ids=str)
def test_foreign_is_missing(route: Route, acme: Account, globex: Account) -> None:
    with scoping.operator():
        things = route.things(acme)
    missing = {name: route.missing.get(name) or unlike(value) for name, value in things.items()}
    client = client_for("globex key", acme, globex)
    foreign_answer, missing_answer = ask(client, route, things), ask(client, route, missing)
    assert foreign_answer.status_code == missing_answer.status_code == (route.theirs or 404)
    assert text_of(foreign_answer, things) == text_of(missing_answer, missing)


def test_every_route_has_a_row() -> None:
    assert set(routes_there_are()) == {(route.method, route.path) for route in ROUTES}


def insiders(route: Route) -> dict[str, int]:
    """What acme's own callers are answered."""
    found = {}
    for role, scopes in accounts.ROLE_SCOPES.items():
        found[str(role)] = route.status if scopes & set(needed(route)) else 403
    for scope in api_keys.SCOPES:
        found[f"key: {scope}"] = route.status if scope in needed(route) else 403
    return found


def outsiders(route: Route) -> dict[str, int]:
    """What everybody else is answered: their own things where the path names none of acme's."""
    theirs = route.theirs or (404 if names_things(route) else route.status)
    nobodys = route.status if route.public else 401
    return {"nobody": nobodys, "wrong key": nobodys, "stranger": nobodys, "globex owner": theirs, "globex key": theirs}


def needed(route: Route) -> tuple[str, ...]:
    return (route.scopes,) if isinstance(route.scopes, str) else route.scopes


def client_for(caller: str, acme: Account, globex: Account) -> APIClient:
    client = APIClient()
    if caller in acme.members:
        client.force_login(acme.members[caller])
    elif caller == "globex owner":
        client.force_login(globex.members["owner"])
    elif caller == "stranger":
        client.force_login(accounts.find_or_create_user(email="stranger@nowhere.example"))
    elif caller.startswith("key: "):
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key_with(acme, caller.removeprefix('key: '))}")
    elif caller == "globex key":
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {globex.key}")
    elif caller == "wrong key":
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {api_keys.draw()}")
    return client


def key_with(account: Account, scope: str) -> str:
    with scoping.operator():
        new = api_keys.create(tenant=account.tenant, name=scope, scopes=[scope], actor="test", now=timezone.now())
    return new.text


def ask(client: APIClient, route: Route, things: Things) -> Any:
    """The answer; what it changed is undone, so that the next caller finds the same things."""
    raw = isinstance(route.body, bytes)
    body = route.body if raw else json.dumps(filled(route.body, things)) if route.body is not None else ""
    with transaction.atomic():
        answer = client.generic(
            route.method,
            PREFIX + route.path.format(**things) + route.query,
            body,
            content_type=route.content_type if raw else "application/json",
        )
        if answer.streaming:
            answer.getvalue()
        transaction.set_rollback(True)
    return answer


def filled(body: Any, things: Things) -> Any:
    """The body with the things' names and ids in their places."""
    return {name: value.format(**things) if isinstance(value, str) else value for name, value in body.items()}


def text_of(answer: Any, things: Things) -> str:
    """The answer's body, the values that the caller itself put into the path left out."""
    text = json.dumps(answer.json()) if answer.content else ""
    if answer.status_code in (400, 404):
        for name, value in things.items():
            text = text.replace(value, f"<{name}>")
    return text


def unlike(value: str) -> str:
    """A value of the same form that names nothing."""
    return "999999" if value.isdigit() else value[:-8] + "".join("0" if c != "0" else "1" for c in value[-8:])


def routes_there_are() -> Iterator[tuple[str, str]]:
    for path, view in patterns(get_resolver().url_patterns, "/"):
        if path.startswith(PREFIX + "/"):
            for method in ("get", "post", "put", "patch", "delete"):
                if hasattr(view, method):
                    yield method.upper(), path.removeprefix(PREFIX)


def patterns(found: list[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in found:
        path = prefix + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield path, getattr(pattern.callback, "view_class", pattern.callback)
