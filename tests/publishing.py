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


def make_key(site: LiveSite, tenant: str, scopes: str = "predict,read,manage,billing") -> str:
    made = site.manage("create_api_key", tenant, "--name", "test", "--scopes", scopes, "--json")
    key = json.loads(made)["key"]
    assert isinstance(key, str)
    return key
