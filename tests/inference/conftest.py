"""A live site whose tenants have small models deployed, for the tests that speak to a real server."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import models
from tests.live import LiveSite, live_site

PUBLISH = """
import json
from pathlib import Path
from django.utils import timezone
from inference import deployments
from modelhub import registry
from modelhub.signatures import Signature, TensorSpec
from tenants import scoping
from tenants.models import Tenant

def tensor(name, shape):
    return (TensorSpec(name, "float32", tuple(shape)),)

with scoping.operator():
    tenant = Tenant.objects.get(name={tenant!r})
    version = registry.publish(
        tenant_id=tenant.pk, model_name={model!r}, recipe={recipe!r}, files={{"model.tflite": Path({path!r})}},
        serving={{"engine": "litert", "file": "model.tflite"}},
        signature=Signature(tensor(*{inputs!r}), tensor(*{outputs!r})), preprocessing={preprocessing!r},
        labels={labels!r}, decision={decision!r}, metrics={{}}, parameters={{}}, conversion={{}},
        actor="operator:test", now=timezone.now(),
    )
    if {deployment!r}:
        deployments.create(tenant=tenant, name={deployment!r}, model={model!r}, number=version.number,
                           actor="operator:test", now=timezone.now())
print(json.dumps(version.number))
"""
TINY: dict[str, Any] = {
    "recipe": "", "inputs": ("x", (-1, 4)), "outputs": ("y", (-1, 3)), "preprocessing": {}, "labels": [],
    "decision": {},
}  # fmt: skip
IDENTITY = TINY | {"outputs": ("y", (-1, 4))}
CNN: dict[str, Any] = {
    "recipe": "image-classifier", "inputs": ("image", (-1, 150, 150, 3)), "outputs": ("score", (-1, 1)),
    "preprocessing": {"kind": "picture", "height": 150, "width": 150, "scale": "1/255"}, "labels": ["cat", "dog"],
    "decision": {"kind": "binary", "threshold": 0.5},
}  # fmt: skip


def publish(site: LiveSite, *, tenant: str, model: str, path: Path, deployment: str = "", **about: Any) -> int:
    """Puts a LiteRT file into the tenant's registry, and deploys it if a name is given; says the version's number."""
    code = PUBLISH.format(tenant=tenant, model=model, path=str(path), deployment=deployment, **about)
    number = site.python(code)
    assert isinstance(number, int)
    return number


@dataclass
class PlaneSite:
    """A site with the tenants acme and globex, and acme's deployments `tiny`, `identity` and `cats`."""

    site: LiveSite
    acme_key: str
    globex_key: str
    files: dict[str, Path]

    def client(self, key: str | None = None) -> httpx.Client:
        return httpx.Client(
            base_url=self.site.url, headers={"Authorization": f"Bearer {key or self.acme_key}"}, timeout=30
        )

    def wait_until_loaded(self, *names: str) -> None:
        with self.client() as client:
            for name in names:
                assert client.post(f"/v1/models/{name}:predict", json={"instances": [[0, 0, 0, 0]]}).status_code < 500


def make_key(site: LiveSite, tenant: str, scopes: str = "predict,read,manage,billing") -> str:
    import json

    made = site.manage("create_api_key", tenant, "--name", "test", "--scopes", scopes, "--json")
    key = json.loads(made)["key"]
    assert isinstance(key, str)
    return key


def open_site(site: LiveSite, files: dict[str, Path]) -> PlaneSite:
    for tenant in ("acme", "globex"):
        site.manage("create_tenant", tenant)
    publish(site, tenant="acme", model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
    publish(site, tenant="acme", model="identity", path=files["identity.tflite"], deployment="identity", **IDENTITY)
    publish(site, tenant="acme", model="cats", path=files["cnn.int8.tflite"], deployment="cats", **CNN)
    return PlaneSite(site, make_key(site, "acme"), make_key(site, "globex"), files)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return models.made(folder, "tiny.tflite", "identity.tflite", "cnn.int8.tflite")


@pytest.fixture(scope="session")
def plane(model_files: dict[str, Path]) -> Iterator[PlaneSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        found = open_site(site, model_files)
        site.start_server()
        found.wait_until_loaded("tiny", "identity", "cats")
        yield found
