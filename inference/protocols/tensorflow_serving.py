"""TensorFlow Serving's REST protocol: predict, status and metadata, as its own clients write and read them."""

import re
from math import prod
from typing import Any

import numpy as np
import orjson

from inference.engines.base import Tensor, Tensors
from inference.plane import routing
from inference.plane.directory import DeploymentEntry, UnknownDeployment, VersionEntry
from inference.plane.exchange import Answer
from inference.plane.versions import LoadedVersion
from inference.protocols.base import (
    Asked,
    Call,
    PredictRequest,
    Route,
    as_tensor,
    b64,
    dump_rows,
    json_answer,
    parse_json,
)
from inference.work import Reply
from modelhub.signatures import TensorSpec
from tenants.errors import FieldError, Invalid, NotFound, Refusal

MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[^/:]+)|/labels/(?P<label>[^/:]+))?"
BOTH = r"/v1/models/[^/:]+/(?:versions/[^/:]+/labels|labels/[^/:]+/versions)/[^/:]+(?::[a-z]+|/metadata)?/?"
SIGNATURE = "serving_default"
DTYPES = {
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "float16": "DT_HALF",
    "int8": "DT_INT8",
    "int16": "DT_INT16",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "uint8": "DT_UINT8",
    "uint16": "DT_UINT16",
    "uint32": "DT_UINT32",
    "uint64": "DT_UINT64",
    "bool": "DT_BOOL",
    "bytes": "DT_STRING",
}


class TensorFlowServing:
    """Rows (`instances` → `predictions`) and columns (`inputs` → `outputs`)."""

    def parse(self, request: PredictRequest, version: LoadedVersion) -> Call:
        return self.call(parse_json(request.whole), request, version)

    def call(self, document: dict[str, Any], request: PredictRequest, version: LoadedVersion) -> Call:
        """The call that a request's JSON makes."""
        if request.verb in ("classify", "regress"):
            return _examples(document, request, version)
        if ("instances" in document) == ("inputs" in document):
            raise Invalid(
                f"The body has the keys {sorted(document)}; expected exactly one of 'instances' (rows) and 'inputs' "
                "(columns).",
                errors=(FieldError("instances", "Expected exactly one of instances and inputs."),),
            )
        if len(document) > 1:
            _check_more(document)
        specs = version.entry.signature.inputs
        if "inputs" in document:
            columns = _columns(document["inputs"], specs, batched=version.batched)
            return _call(columns, _render_columns) if version.batched else Call(1, _render_columns, columns)
        if not version.batched:
            raise Invalid("instances: this model has no rows; send 'inputs'.")
        instances = document["instances"]
        if not isinstance(instances, list):
            raise Invalid("instances: expected a list of rows.", errors=(FieldError("instances", "Expected rows."),))
        if version.served is not None and instances and _is_b64(instances[0]):
            raw = tuple(_file(one, number) for number, one in enumerate(instances))
            return Call(rows=len(raw), raw=raw, render=_render_rows)
        return _call(_rows(instances, specs), _render_rows)

    def render_error(self, refusal: Refusal) -> tuple[bytes, bytes]:
        detail = refusal.detail
        if isinstance(refusal, UnknownDeployment):
            detail = f"Servable not found for request: Latest({refusal.name})"
        return orjson.dumps({"error": detail}), b"application/json"


def status(asked: Asked) -> Answer:
    """What GET /v1/models/NAME answers."""
    deployment = _deployment(asked)
    states = asked.versions.states()
    one_alone = asked.match["version"] or asked.match["label"]
    main = _version(asked)
    shown = [main] if one_alone else [main, *(one for one, _ in deployment.canaries)]
    about = [
        {
            "version": str(version.number),
            "state": states.get(version.id, "START"),
            "status": {"error_code": "OK", "error_message": ""},
        }
        for version in shown
    ]
    ready = states.get(main.id) == "AVAILABLE"
    if not ready:
        asked.versions.preload(main)
    # KServe's clients read `name` and `ready` of the same answer.
    document = {"name": deployment.name, "ready": ready, "model_version_status": about}
    answer = json_answer(document, 200 if ready else 503)
    if not ready:
        answer.headers.append((b"retry-after", b"1"))
    return answer


def alive(asked: Asked) -> Answer:
    """What KServe's clients ask of a server."""
    return json_answer({"status": "alive"})


def models(asked: Asked) -> Answer:
    """The names of the tenant's deployments."""
    assert asked.key is not None
    return json_answer({"models": sorted(asked.key.deployments())})


def _deployment(asked: Asked) -> DeploymentEntry:
    assert asked.deployment is not None
    return asked.deployment


def _version(asked: Asked) -> VersionEntry:
    return routing.named(_deployment(asked), version=asked.match["version"], label=asked.match["label"])


def metadata(asked: Asked) -> Answer:
    """What GET /v1/models/NAME/metadata answers."""
    deployment = _deployment(asked)
    version = _version(asked)
    signature = version.signature
    definition = {
        "inputs": {spec.name: _tensor_info(spec) for spec in signature.inputs},
        "outputs": {spec.name: _tensor_info(spec) for spec in signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return json_answer(
        {
            "model_spec": {"name": deployment.name, "signature_name": "", "version": str(version.number)},
            "metadata": {"signature_def": {"signature_def": {SIGNATURE: definition}}},
        }
    )


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    return {
        "dtype": DTYPES[spec.dtype],
        "tensor_shape": {"dim": [{"size": str(size), "name": ""} for size in spec.shape], "unknown_rank": False},
        "name": f"{spec.name}:0",
    }


def _examples(document: dict[str, Any], request: PredictRequest, version: LoadedVersion) -> Call:
    """The rows of classify and regress: `examples`, each with all features that `context` does not have."""
    unknown = sorted(document.keys() - {"examples", "context", "signature_name"})
    examples, context = document.get("examples"), document.get("context", {})
    if unknown or not isinstance(examples, list) or not isinstance(context, dict):
        raise Invalid(
            f"The body has the keys {sorted(document)}; expected 'examples', a list of objects with features."
        )
    if not all(isinstance(one, dict) for one in examples):
        raise Invalid("examples: expected an object with the features of the row in each.")
    specs = version.entry.signature.inputs
    rows = [context | one for one in examples]
    render = _render_classes if request.verb == "classify" else _render_values
    labels = version.entry.manifest.get("labels", [])
    return _call(_rows(rows, specs), lambda outputs: render(outputs, labels))


def _render_classes(outputs: Tensors, labels: list[str]) -> Reply:
    """For each row its labels with their scores; one score of two labels is the second's."""
    scores = _numbers(outputs, "classify", (len(labels), 1))
    rows = scores.reshape(len(scores), -1).tolist()
    if len(labels) == 2 and rows and len(rows[0]) == 1:
        rows = [[1 - row[0], row[0]] for row in rows]
    results = [
        [[labels[i] if len(labels) == len(row) else str(i), score] for i, score in enumerate(row)] for row in rows
    ]
    return Reply(orjson.dumps({"results": results}))


def _render_values(outputs: Tensors, labels: list[str]) -> Reply:
    """For each row its one value."""
    values = _numbers(outputs, "regress", (1,))
    if len(values) and values[0].size != 1:
        raise Invalid(f"regress: this model gives {values[0].size} values a row, and regress takes one; use predict.")
    return Reply(b'{"results":' + dump_rows(values.reshape(len(values))) + b"}")


def _numbers(outputs: Tensors, verb: str, sizes: tuple[int, ...]) -> Tensor:
    """The first output of numbers that has one of these sizes a row, the first size before the others, or any."""
    numbers = [tensor for tensor in outputs.values() if tensor.dtype.kind != "O"]
    if not numbers:
        raise Invalid(f"{verb}: this model gives texts only ({', '.join(outputs)}); use predict.")
    of_size = (tensor for size in sizes for tensor in numbers if prod(tensor.shape[1:]) == size)
    return next(of_size, numbers[0])


def _check_more(document: dict[str, Any]) -> None:
    """Refuses what else a document has beside its rows or columns, if that is not known here."""
    unknown = sorted(document.keys() - {"instances", "inputs", "signature_name"})
    if unknown:
        raise Invalid(f"The body has unknown keys: {', '.join(unknown)}.")
    if document.get("signature_name", SIGNATURE) not in ("", SIGNATURE):
        raise Invalid(f"Signature {document['signature_name']!r} is not there; this model has {SIGNATURE!r}.")


def _call(inputs: Tensors, render: Any) -> Call:
    counts = [len(tensor) for tensor in inputs.values()]
    if len(set(counts)) != 1:
        by_name = dict(zip(inputs, counts, strict=True))
        raise Invalid(f"The inputs differ in their number of rows: {by_name}.")
    return Call(rows=counts[0], inputs=inputs, render=render)


def _rows(instances: list[Any], specs: tuple[TensorSpec, ...]) -> dict[str, Tensor]:
    if not instances or not isinstance(instances[0], dict) or _is_b64(instances[0]):
        if not instances:
            return {spec.name: as_tensor([], spec, "instances") for spec in specs}
        if len(specs) > 1:
            names = sorted(spec.name for spec in specs)
            raise Invalid(f"instances: this model has the inputs {names}; expected an object with them in each row.")
        return {specs[0].name: as_tensor(instances, specs[0], "instances")}
    keys = {spec.name for spec in specs}
    for number, row in enumerate(instances):
        if not isinstance(row, dict) or row.keys() != keys:
            got = sorted(row) if isinstance(row, dict) else "no object"
            raise Invalid(f"instances[{number}]: got {got}; expected an object with the keys {sorted(keys)}.")
    return {
        spec.name: as_tensor([row[spec.name] for row in instances], spec, f"instances.{spec.name}") for spec in specs
    }


def _columns(inputs: Any, specs: tuple[TensorSpec, ...], *, batched: bool) -> dict[str, Tensor]:
    names = {spec.name for spec in specs}
    if not isinstance(inputs, dict):
        if len(specs) > 1:
            raise Invalid(
                f"inputs: this model has the inputs {sorted(names)}; expected an object with one tensor for each."
            )
        return {specs[0].name: as_tensor(inputs, specs[0], "inputs", batched=batched)}
    if inputs.keys() != names:
        raise Invalid(f"inputs: got {sorted(inputs)}; expected an object with the keys {sorted(names)}.")
    return {spec.name: as_tensor(inputs[spec.name], spec, f"inputs.{spec.name}", batched=batched) for spec in specs}


def _dumped(name: str, tensor: Tensor) -> bytes:
    return dump_rows(tensor, b64=name.endswith("_bytes"))


def _render_rows(outputs: Tensors) -> Reply:
    if len(outputs) == 1:
        name, tensor = next(iter(outputs.items()))
        return Reply(b'{"predictions":' + _dumped(name, tensor) + b"}")
    count = len(next(iter(outputs.values())))
    rows = (
        b"{"
        + b",".join(orjson.dumps(name) + b":" + _dumped(name, np.asarray(t[i, ...])) for name, t in outputs.items())
        + b"}"
        for i in range(count)
    )
    return Reply(b'{"predictions":[' + b",".join(rows) + b"]}")


def _render_columns(outputs: Tensors) -> Reply:
    if len(outputs) == 1:
        name, tensor = next(iter(outputs.items()))
        return Reply(b'{"outputs":' + _dumped(name, tensor) + b"}")
    columns = b",".join(orjson.dumps(name) + b":" + _dumped(name, tensor) for name, tensor in outputs.items())
    return Reply(b'{"outputs":{' + columns + b"}}")


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _file(value: Any, number: int) -> bytes:
    if not _is_b64(value):
        raise Invalid(f'instances[{number}]: expected {{"b64": base64 of a picture file}}, as the rows before it.')
    return b64(value, f"instances[{number}]")


def _method_unknown(asked: Asked) -> Answer:
    raise NotFound(f"The method {asked.match['method']!r} is not served here: predict, classify or regress.")


def _version_and_label(asked: Asked) -> Answer:
    raise Invalid(f"Malformed request: {asked.request.head.path} names a version and a label; expected one of them.")


PROTOCOL = TensorFlowServing()
ROUTES: tuple[Route, ...] = (
    *(
        Route(re.compile(MODEL + f":{verb}/?", re.IGNORECASE), "POST", PROTOCOL, verb=verb)
        for verb in ("predict", "classify", "regress")
    ),
    Route(re.compile("/"), "GET", PROTOCOL, view=alive, public=True),
    Route(re.compile("/v1/models/?", re.IGNORECASE), "GET", PROTOCOL, view=models),
    Route(re.compile(MODEL + "/metadata/?", re.IGNORECASE), "GET", PROTOCOL, view=metadata),
    Route(re.compile(MODEL + "/?", re.IGNORECASE), "GET", PROTOCOL, view=status),
    Route(
        re.compile(MODEL + ":(?!(?:predict|classify|regress)/?$)(?P<method>[a-z]+)/?", re.IGNORECASE),
        "POST",
        PROTOCOL,
        view=_method_unknown,
    ),
    *(Route(re.compile(BOTH, re.IGNORECASE), method, PROTOCOL, view=_version_and_label) for method in ("GET", "POST")),
)
