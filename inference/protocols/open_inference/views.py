"""What the Open Inference Protocol answers besides infer: health, metadata, configuration, statistics, repository."""

import re
from typing import Any

from inference.plane import routing
from inference.plane.directory import DeploymentEntry, KeyEntry, VersionEntry
from inference.plane.exchange import Answer, Waiting
from inference.plane.statistics import Tally
from inference.protocols.base import Asked, Route, json_answer
from inference.protocols.open_inference.infer import PROTOCOL
from inference.tensor_bytes import DATATYPES
from modelhub.signatures import TensorSpec
from tenants.errors import Invalid, NotImplementedHere, Unavailable

SERVER = {
    "name": "aiaas",
    "version": "2",
    "extensions": [
        "classification",
        "model_configuration",
        "model_repository",
        "model_repository(unload_dependents)",
        "schedule_policy",
        "statistics",
        "binary_tensor_data",
    ],
}
# Triton's names for the states of TensorFlow Serving.
STATES = {"AVAILABLE": "READY", "LOADING": "LOADING", "UNLOADING": "UNLOADING"}
CONFIG_TYPES = {datatype: f"TYPE_{datatype}" for datatype in DATATYPES.values()} | {"BYTES": "TYPE_STRING"}


def server(asked: Asked) -> Answer:
    return json_answer(SERVER)


def live(asked: Asked) -> Answer:
    return json_answer({"live": True})


def ready(asked: Asked) -> Answer:
    """Whether predictions are answered: not while the server starts or stops, or has lost its database."""
    if not asked.ready:
        raise Unavailable("The server is starting, stopping, or has lost its database.", retry_after=1)
    return json_answer({"ready": True, "live": True})


def model(asked: Asked) -> Answer:
    """A deployment's metadata."""
    deployment, version = _version(asked)
    return json_answer(
        {
            "name": deployment.name,
            "versions": [str(version.number)],
            "platform": version.manifest["serving"]["engine"],
            "inputs": [_tensor(spec) for spec in version.signature.inputs],
            "outputs": [_tensor(spec) for spec in version.signature.outputs],
        }
    )


def model_ready(asked: Asked) -> Answer:
    """Whether a deployment answers without waiting; one that would wait is loaded from here on."""
    deployment, version = _version(asked)
    if asked.versions.loaded(version.id) is None:
        asked.versions.preload(version)
        raise Invalid(f"Model {deployment.name!r} is not ready: its version is being loaded.")
    return json_answer({"name": deployment.name, "ready": True})


def config(asked: Asked) -> Answer:
    """A deployment in the words of Triton's model configuration."""
    deployment, version = _version(asked)
    loaded = asked.versions.loaded(version.id)
    batched = version.manifest["serving"].get("batched", True)
    return json_answer(
        {
            "name": deployment.name,
            "platform": version.manifest["serving"]["engine"],
            "backend": version.manifest["serving"]["engine"],
            "version_policy": {"specific": {"versions": [version.number]}},
            "max_batch_size": asked.limits_rows if batched else 0,
            "input": [_configured(spec, batched=batched) for spec in version.signature.inputs],
            "output": [_configured(spec, batched=batched) for spec in version.signature.outputs],
            "dynamic_batching": {"preferred_batch_size": [loaded.measured.best_rows] if loaded else []},
            "instance_group": [{"name": deployment.name, "kind": "KIND_CPU", "count": 1}],
            "default_model_filename": version.manifest["serving"]["file"],
        }
    )


def stats(asked: Asked) -> Answer:
    """One deployment's statistics in this process."""
    deployment, version = _version(asked)
    return json_answer({"model_stats": [_stats(asked, deployment, version)]})


def all_stats(asked: Asked) -> Answer:
    """The statistics of all the tenant's deployments in this process."""
    found = [_stats(asked, one, one.version) for one in _key(asked).deployments().values()]
    return json_answer({"model_stats": found})


def index(asked: Asked) -> Answer:
    """The tenant's deployments, and whether their versions are in memory."""
    states = asked.versions.states()
    return json_answer(
        [
            {
                "name": one.name,
                "version": str(one.version.number),
                "state": STATES.get(states.get(one.version.id, ""), "UNAVAILABLE"),
                "reason": "" if one.version.id in states else "unloaded",
            }
            for one in _key(asked).deployments().values()
        ]
    )


def load(asked: Asked) -> Answer:
    """Brings a deployment's version into memory; answers when it is there."""
    _, version = _version(asked)
    if asked.versions.loaded(version.id) is None:
        raise Waiting(asked.versions.load(version))
    return json_answer({})


def unload(asked: Asked) -> Answer:
    """Takes a deployment's version out of memory; the next request brings it back."""
    _, version = _version(asked)
    asked.versions.unload(version.id)
    return json_answer({})


def unsupported(asked: Asked) -> Answer:
    raise NotImplementedHere(
        f"{asked.request.head.path} is not served here: tracing, logging and memory are the operator's."
    )


def _key(asked: Asked) -> KeyEntry:
    assert asked.key is not None
    return asked.key


def _version(asked: Asked) -> tuple[DeploymentEntry, VersionEntry]:
    deployment = asked.deployment
    assert deployment is not None
    return deployment, routing.named(deployment, version=asked.match.get("version", ""))


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(spec.shape)}


def _configured(spec: TensorSpec, *, batched: bool) -> dict[str, Any]:
    dims = list(spec.shape[1:] if batched else spec.shape)
    return {"name": spec.name, "data_type": CONFIG_TYPES[DATATYPES[spec.dtype]], "dims": dims}


def _stats(asked: Asked, deployment: DeploymentEntry, version: VersionEntry) -> dict[str, Any]:
    tally = asked.statistics.of((version.tenant_id, deployment.name, version.label))
    return {
        "name": deployment.name,
        "version": str(version.number),
        "last_inference": tally.last_ms,
        "inference_count": tally.rows,
        "execution_count": tally.batches,
        "inference_stats": _durations(tally),
        "batch_stats": [],
    }


def _durations(tally: Tally) -> dict[str, dict[str, int]]:
    def of(count: int, microseconds: int) -> dict[str, int]:
        return {"count": count, "ns": microseconds * 1000}

    return {
        "success": of(tally.requests, tally.total_us),
        "fail": of(tally.failed, tally.failed_us),
        "queue": of(tally.requests, tally.queue_us),
        "compute_input": of(tally.requests, 0),
        "compute_infer": of(tally.requests, tally.compute_us),
        "compute_output": of(tally.requests, 0),
        "cache_hit": of(tally.cache_hits, 0),
        "cache_miss": of(0, 0),
    }


def _route(method: str, pattern: str, **what: Any) -> Route:
    return Route(re.compile(pattern + "/?"), method, PROTOCOL, **what)


MODEL = r"/v2/models/(?P<name>[^/]+?)(?:/versions/(?P<version>[^/]+?))?"
REPOSITORY = r"/v2/repository/models/(?P<name>[^/]+)"
UNSUPPORTED = (
    r"/v2/(?:models/(?P<model>[^/]+)/)?(?:trace/setting|logging|(?:system|cuda)sharedmemory(?:/(?P<rest>.*))?)"
)
ROUTES: tuple[Route, ...] = (
    _route("POST", MODEL + "(?:/|:)infer", verb="infer"),
    _route("GET", "/v2", view=server, public=True),
    _route("GET", "/v2/health/live", view=live, public=True),
    _route("GET", "/v2/health/ready", view=ready, public=True),
    _route("GET", "/v2/models/stats", view=all_stats),
    _route("GET", MODEL, view=model),
    _route("GET", MODEL + "/ready", view=model_ready),
    _route("GET", MODEL + "/config", view=config),
    _route("GET", MODEL + "/stats", view=stats),
    _route("POST", "/v2/repository/index", view=index),
    _route("POST", REPOSITORY + "/load", view=load),
    _route("POST", REPOSITORY + "/unload", view=unload),
    *(_route(method, UNSUPPORTED, view=unsupported) for method in ("GET", "POST")),
)
