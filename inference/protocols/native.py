"""The service's own protocol: raw input as its sender has it, an answer in the language of the task."""

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import multipart
import numpy as np
import orjson

from inference.batching import Reply
from inference.engines.base import Tensors
from inference.plane.exchange import Answer
from inference.plane.versions import LoadedVersion
from inference.protocols import tensorflow_serving
from inference.protocols.base import Asked, Call, PredictRequest, Route, json_answer
from modelhub.recipes.base import Served
from tenants.api import problems
from tenants.errors import Invalid, NotFound, Refusal, UnsupportedMedia

MAX_PARTS = 1024


class Native:
    """A file, or a form with several, for a model of pictures; JSON with `instances` or `inputs` for any model."""

    def parse(self, request: PredictRequest, version: LoadedVersion) -> Call:
        served = version.served
        if served is not None and _matches(request.content_type, served.content_types):
            if not request.body:
                raise Invalid(f"The body is empty; expected the bytes of one {served.content_types[0]}.")
            return Call(rows=1, raw=(request.body,), render=self._renderer(request, version, served, many=False))
        if served is not None and request.content_type == "multipart/form-data":
            files = _files(request, served)
            names = [name for name, _ in files]
            render = self._renderer(request, version, served, many=True, names=names)
            return Call(rows=len(files), raw=tuple(data for _, data in files), render=render)
        if request.content_type == "application/json":
            call = tensorflow_serving.PROTOCOL.parse(request, version)
            if served is None:
                return call._replace(render=_renderer_of_tensors(request, version, call))
            render = self._renderer(request, version, served, many=True)
            return Call(rows=call.rows, inputs=call.inputs, raw=call.raw, render=render)
        expected = (*((*served.content_types, "multipart/form-data") if served is not None else ()), "application/json")
        raise UnsupportedMedia(
            f"Content-Type {request.content_type or '(none)'!r} is not taken by this deployment; expected "
            f"{' or '.join(expected)}."
        )

    def render_error(self, refusal: Refusal) -> tuple[bytes, bytes]:
        return json.dumps(problems.body(refusal), ensure_ascii=False).encode(), problems.CONTENT_TYPE.encode()

    def _renderer(
        self,
        request: PredictRequest,
        version: LoadedVersion,
        served: Served,
        *,
        many: bool,
        names: Sequence[str] = (),
    ) -> Any:
        def render(outputs: Tensors) -> Reply:
            rows = len(next(iter(outputs.values())))
            answers = [served.answer({name: tensor[i] for name, tensor in outputs.items()}) for i in range(rows)]
            if names:
                answers = [{"file": name} | answer for name, answer in zip(names, answers, strict=True)]
            about = _about(request, version, rows)
            return Reply(orjson.dumps(({"predictions": answers} if many else answers[0]) | about, default=_plain))

        return render


def _renderer_of_tensors(request: PredictRequest, version: LoadedVersion, call: Call) -> Callable[[Tensors], Reply]:
    """For a model that has no language of its own: its tensors, and then what every answer says."""

    def render(outputs: Tensors) -> Reply:
        tensors = call.render(outputs)
        about = orjson.dumps(_about(request, version, call.rows))
        return tensors._replace(body=tensors.body[:-1] + b"," + about[1:])

    return render


def _about(request: PredictRequest, version: LoadedVersion, rows: int) -> dict[str, Any]:
    """What every answer says, whatever the model."""
    return {
        "request_id": request.id,
        "deployment": request.deployment,
        "model": version.entry.model,
        "version": version.entry.number,
        "usage": {"predictions": rows, "input_bytes": len(request.body)},
    }


def _files(request: PredictRequest, served: Served) -> list[tuple[str, bytes]]:
    """The name and the bytes of each file of a form, in their order."""
    _, options = multipart.parse_options_header(request.headers[b"content-type"].decode("latin-1"))
    stream, size = io.BytesIO(request.body), len(request.body)
    try:
        form = multipart.MultipartParser(
            stream, options.get("boundary", ""), size, part_limit=MAX_PARTS, spool_limit=size + 1, memory_limit=size + 1
        )
        parts = list(form)
    except (multipart.MultipartError, ValueError) as error:
        raise Invalid(f"The body is no form with files: {error}.") from error
    try:
        found = [(part.filename or part.name, part.raw) for part in parts]
        kinds = {part.content_type for part in parts if not _matches(part.content_type, served.content_types)}
    finally:
        for part in parts:
            part.close()
    if not found:
        raise Invalid(f"The form has no file; expected one or more {served.content_types[0]}.")
    if kinds - {"application/octet-stream"}:
        raise UnsupportedMedia(f"The form has parts of {sorted(kinds)}; expected {', '.join(served.content_types)}.")
    return found


def _matches(content_type: str, accepted: tuple[str, ...]) -> bool:
    return any(content_type == one or (one.endswith("/*") and content_type.startswith(one[:-1])) for one in accepted)


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def shadow(asked: Asked) -> Answer:
    """What GET …/shadow answers: how the shadow has compared in this process."""
    deployment = asked.deployment
    assert deployment is not None
    entry = deployment.shadow
    if entry is None:
        raise NotFound(f"The deployment {deployment.name!r} has no shadow.")
    tally = asked.shadows.of((entry.tenant_id, deployment.name, entry.label))
    return json_answer({"model": entry.model, "version": entry.number, **asdict(tally)})


PROTOCOL = Native()
ROUTES = (
    Route(re.compile(r"/api/v1/deployments/(?P<name>[^/]+)/predict/?"), "POST", PROTOCOL, verb="predict"),
    Route(re.compile(r"/api/v1/deployments/(?P<name>[^/]+)/shadow/?"), "GET", PROTOCOL, view=shadow),
)
