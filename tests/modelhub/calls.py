"""The data sets' API as a customer calls it."""

import io
import json
from typing import Any

from rest_framework.test import APIClient

from modelhub import datasets, storage
from modelhub.models import Blob
from tenants import scoping
from tenants.models import AuditEvent
from tests.conftest import Account
from tests.modelhub import zips

DATASETS = "/api/v1/datasets"


def create(client: APIClient, name: str = "pets", kind: str = "image-classification", **options: Any) -> str:
    answer = client.post(DATASETS, {"name": name, "kind": kind, **options}, format="json")
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def upload(client: APIClient, dataset: str, body: bytes, content_type: str = "application/zip", **extra: Any) -> Any:
    return client.put(f"{DATASETS}/{dataset}/content", data=body, content_type=content_type, **extra)


def stream(client: APIClient, dataset: str, body: io.BufferedIOBase, length: int) -> Any:
    """An upload whose body is read from a stream, as a server hands it over."""
    extra: dict[str, Any] = {"wsgi.input": body, "CONTENT_LENGTH": str(length)}
    return client.put(f"{DATASETS}/{dataset}/content", data=b"", content_type="application/zip", **extra)


def shown(client: APIClient, dataset: str) -> Any:
    answer = client.get(f"{DATASETS}/{dataset}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def filled(client: APIClient, name: str = "pets", **options: Any) -> str:
    """A data set that has been checked."""
    dataset = create(client, name)
    answer = upload(client, dataset, zips.packed(zips.good(**options)))
    assert answer.status_code == 200, answer.content
    return dataset


def sealed(client: APIClient, name: str = "pets", **options: Any) -> str:
    """A data set that is sealed."""
    dataset = filled(client, name, **options)
    assert client.post(f"{DATASETS}/{dataset}/seal").status_code == 200
    return dataset


def derive(client: APIClient, dataset: str, **body: Any) -> Any:
    return client.post(f"{DATASETS}/{dataset}/versions", body, format="json")


def derived(client: APIClient, dataset: str, **body: Any) -> str:
    """The id of the version that is made of a sealed data set."""
    answer = derive(client, dataset, **body)
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def uploaded(
    client: APIClient, kind: str, body: bytes, content_type: str = "application/zip", name: str = "set", **options: Any
) -> Any:
    """The data set after an upload of this body, checked or rejected."""
    dataset = create(client, name, kind, **options)
    answer = upload(client, dataset, body, content_type)
    assert answer.status_code in (200, 400), answer.content
    row = shown(client, dataset)
    assert (answer.status_code == 200) == (row["state"] == "checked"), answer.content
    return row


def problems(row: Any) -> dict[str, str]:
    """What the report says of each bad item, by name."""
    return {each["name"]: each["problem"] for each in row["report"]["problems"]}


def warnings(row: Any) -> dict[str, str]:
    """The report's warnings by kind."""
    return {each["kind"]: each["detail"] for each in row["report"]["warnings"]}


def lines(account: Account, row: Any, split: str) -> list[Any]:
    """The stored rows of a split of a data set of rows."""
    with scoping.tenant(account.tenant.pk):
        manifest = datasets.load_manifest(datasets.get(tenant=account.tenant, dataset_id=row["id"]))
        parts = [storage.read(tenant_id=account.tenant.pk, sha256=item.sha256) for item in manifest.of(split)]
    return [json.loads(line) for part in parts for line in part.splitlines()]


def manifest_of(account: Account, row: Any) -> datasets.Manifest:
    with scoping.tenant(account.tenant.pk):
        return datasets.load_manifest(datasets.get(tenant=account.tenant, dataset_id=row["id"]))


def audited(account: Account) -> list[str]:
    with scoping.tenant(account.tenant.pk):
        verbs = AuditEvent.objects.for_tenant(account.tenant).order_by("id").values_list("verb", flat=True)
        return [verb for verb in verbs if verb.startswith("dataset.")]


def live_digests(account: Account) -> set[str]:
    with scoping.tenant(account.tenant.pk):
        return set(Blob.objects.for_tenant(account.tenant).filter(erased_at=None).values_list("sha256", flat=True))
