"""What tests and benchmarks put into a live site: model files in a tenant's registry, deployments, keys."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.live import LiveSite

PUBLISH = """
import json
from pathlib import Path
from django.utils import timezone
from inference import deployments
from modelhub import registry
from modelhub.signatures import Signature, TensorSpec
from tenants import scoping
from tenants.models import Tenant

def tensors(given):
    # (name, shape) of one tensor of float32, or a list of (name, dtype, shape)
    if isinstance(given, tuple):
        given = [(given[0], "float32", given[1])]
    return tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in given)

with scoping.operator():
    tenant = Tenant.objects.get(name={tenant!r})
    version = registry.publish(
        tenant_id=tenant.pk, model_name={model!r}, recipe={recipe!r},
        files={{Path(one).name: Path(one) for one in {files!r}}},
        serving={{"engine": {engine!r}, "file": Path({path!r}).name}} | {serving!r},
        signature=Signature(tensors({inputs!r}), tensors({outputs!r})), preprocessing={preprocessing!r},
        labels={labels!r}, decision={decision!r}, metrics={{}}, parameters={{}}, conversion={{}},
        actor="operator:test", now=timezone.now(),
    )
    if {deployment!r}:
        deployments.create(tenant=tenant, name={deployment!r}, model={model!r}, number=version.number,
                           actor="operator:test", now=timezone.now())
print(json.dumps(version.number))
"""
PUBLISH_MANY = """
import json
from itertools import groupby
from pathlib import Path
from django.utils import timezone
from inference import deployments
from modelhub import registry
from modelhub.signatures import Signature, TensorSpec
from tenants import accounts, scoping
from tenants.keys import api_keys
from tenants.models import Plan

def tensors(given):
    name, shape = given
    return (TensorSpec(name, "float32", tuple(shape)),)

keys, actor = {{}}, {{"actor": "operator:test"}}
with scoping.operator():
    plan = Plan.objects.get(code="standard")
    for name, wanted in groupby(json.loads(Path({listed!r}).read_text()), key=lambda one: one["tenant"]):
        now = timezone.now()
        tenant = accounts.create_tenant(name=name, plan=plan, now=now, **actor)
        keys[name] = api_keys.create(tenant=tenant, name="test", scopes=["predict"], now=now, **actor).text
        for one in wanted:
            path = Path(one["path"])
            version = registry.publish(
                tenant_id=tenant.pk, model_name=one["name"], recipe="", files={{path.name: path}},
                serving={{"engine": one["engine"], "file": path.name}},
                signature=Signature(tensors(one["inputs"]), tensors(one["outputs"])), preprocessing={{}}, labels=[],
                decision={{}}, metrics={{}}, parameters={{}}, conversion={{}}, now=now, **actor,
            )
            deployments.create(tenant=tenant, name=one["name"], model=one["name"], number=version.number, now=now,
                               **actor)
print(json.dumps(keys))
"""
TINY: dict[str, Any] = {
    "recipe": "", "inputs": ("x", (-1, 4)), "outputs": ("y", (-1, 3)), "preprocessing": {}, "labels": [],
    "decision": {}, "engine": "litert", "serving": {},
}  # fmt: skip
IDENTITY = TINY | {"outputs": ("y", (-1, 4))}
CNN: dict[str, Any] = {
    "recipe": "image-classifier", "inputs": ("image", (-1, 150, 150, 3)), "outputs": ("score", (-1, 1)),
    "preprocessing": {"kind": "picture", "height": 150, "width": 150, "scale": "1/255"}, "labels": ["cat", "dog"],
    "decision": {"kind": "binary", "threshold": 0.5}, "engine": "litert", "serving": {},
}  # fmt: skip


def publish(
    site: LiveSite,
    *,
    tenant: str,
    model: str,
    path: Path,
    deployment: str = "",
    more_files: Sequence[Path] = (),
    **about: Any,
) -> int:
    """Puts a model file into the tenant's registry, and deploys it if a name is given; says the version's number."""
    given = {"tenant": tenant, "model": model, "path": path, "deployment": deployment, "more_files": more_files}
    number = publish_all(site, given | about)
    assert isinstance(number, int)
    return number


def publish_all(site: LiveSite, *given: dict[str, Any]) -> Any:
    """Publishes several, each with `publish`'s own arguments, in one process; says the last version's number."""
    named = [
        {"deployment": ""}
        | one
        | {"path": str(one["path"]), "files": sorted({str(file) for file in (one["path"], *one.get("more_files", ()))})}
        for one in given
    ]
    return site.python("".join(PUBLISH.format(**one) for one in named))


def publish_many(site: LiveSite, wanted: list[dict[str, Any]], *, listed: Path) -> dict[str, str]:
    """Opens an account for each tenant and deploys all its models, in one process; gives the tenants' keys by name.

    Each of the wanted says its tenant, name, path, engine, inputs and outputs; those of a tenant stand together.
    `listed` is where they are written down for that process.
    """
    listed.write_text(json.dumps(wanted))
    keys: dict[str, str] = site.python(PUBLISH_MANY.format(listed=str(listed)))
    return keys


def make_key(site: LiveSite, tenant: str, scopes: str = "predict,read,manage,billing") -> str:
    made = site.manage("create_api_key", tenant, "--name", "test", "--scopes", scopes, "--json")
    key = json.loads(made)["key"]
    assert isinstance(key, str)
    return key
