"""The service's own protocol: raw input as its sender has it, an answer in the language of the task."""

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import multipart
import numpy as np
import orjson

from inference.cells import cell
from inference.engines.base import Tensors
from inference.plane.exchange import Answer
from inference.plane.versions import LoadedVersion
from inference.protocols import tensorflow_serving
from inference.protocols.base import Asked, Call, PredictRequest, Route, json_answer, parse_json
from inference.work import Reply
from modelhub.recipes.base import Served
from modelhub.recipes.learning import Pipeline
from modelhub.signatures import BYTES, TensorSpec
from tenants.api import problems
from tenants.errors import Invalid, NotFound, Refusal, UnsupportedMedia

MAX_PARTS = 1024


# The encodings of a text that are read; what is not said is UTF-8.
CHARSETS = frozenset(("utf-8", "us-ascii", "iso-8859-1", "windows-1252", "utf-16"))
Speaker = Served | Pipeline


class Native:
    """One body that is a row (a file, a text), or a form with several; JSON with `instances` or `inputs` for any."""

    def parse(self, request: PredictRequest, version: LoadedVersion) -> Call:
        speaker: Speaker | None = version.pipeline or version.served
        taken = () if speaker is None else speaker.content_types
        if speaker is not None and _matches(request.content_type, taken):
            if not request.body:
                raise Invalid(f"The body is empty; expected the bytes of one {taken[0]}.")
            row = _as_utf8(request) if request.content_type.startswith("text/") else request.whole
            return _call(version, [row], self._renderer(request, version, speaker, many=False))
        if speaker is not None and taken and request.content_type == "multipart/form-data":
            files = _files(request, taken)
            names = [name for name, _ in files]
            render = self._renderer(request, version, speaker, many=True, names=names)
            return _call(version, [data for _, data in files], render)
        if request.content_type == "application/json":
            document = parse_json(request.whole)
            if version.pipeline is not None:
                document = _filled(document, version.entry.signature.inputs)
            call = tensorflow_serving.PROTOCOL.call(document, request, version)
            if speaker is None:
                return replace(call, render=_renderer_of_tensors(request, version, call))
            return replace(call, render=self._renderer(request, version, speaker, many=True))
        expected = (*taken, *(("multipart/form-data",) if taken else ()), "application/json")
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
        speaker: Speaker,
        *,
        many: bool,
        names: Sequence[str] = (),
    ) -> Any:
        def render(outputs: Tensors) -> Reply:
            rows = len(next(iter(outputs.values())))
            answers = [speaker.answer({name: tensor[i, ...] for name, tensor in outputs.items()}) for i in range(rows)]
            if names:
                answers = [{"file": name} | answer for name, answer in zip(names, answers, strict=True)]
            about = _about(request, version, rows)
            return Reply(orjson.dumps(({"predictions": answers} if many else answers[0]) | about, default=_plain))

        return render


def _call(version: LoadedVersion, rows: Sequence[bytes], render: Callable[[Tensors], Reply]) -> Call:
    """The call of rows that came as bytes: for a pipeline its one input, else for the recipe's own preparing."""
    if version.pipeline is None:
        return Call(rows=len(rows), raw=tuple(rows), render=render)
    (spec,) = version.entry.signature.inputs  # a pipeline that takes whole bodies has no other
    tensor = np.empty(len(rows), object)
    tensor[:] = rows
    return Call(rows=len(rows), inputs={spec.name: tensor}, render=render)


def _as_utf8(request: PredictRequest) -> bytes:
    """The body, a text, in UTF-8 whatever its `charset` is."""
    _, options = multipart.parse_options_header(request.headers[b"content-type"].decode("latin-1"))
    body, charset = request.whole, options.get("charset", "utf-8").lower()
    if charset == "utf-8":
        return body
    if charset not in CHARSETS:
        raise UnsupportedMedia(f"The charset {charset[:40]!r} is not read here; expected one of {sorted(CHARSETS)}.")
    try:
        return body.decode(charset).encode()
    except UnicodeError as error:
        raise Invalid(f"The body is no {charset}: {error}.") from error


def _filled(document: dict[str, Any], specs: tuple[TensorSpec, ...]) -> dict[str, Any]:
    """JSON about columns, of which some may be null or left out, and texts may be given as numbers."""
    if [spec.dtype for spec in specs] == [BYTES]:
        return document
    named = {spec.name: spec for spec in specs}
    rows, columns = document.get("instances"), document.get("inputs")
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        empty = dict.fromkeys(named)
        return document | {"instances": [_cells(empty | row, named) for row in rows]}
    if isinstance(columns, dict) and all(isinstance(column, list) for column in columns.values()):
        filled = {name: [cell(one, named[name]) for one in columns[name]] for name in named.keys() & columns.keys()}
        return document | {"inputs": columns | filled}
    return document


def _cells(row: dict[str, Any], named: dict[str, TensorSpec]) -> dict[str, Any]:
    """A row with what its columns take; what is no column stays, and is refused by its name."""
    return {name: cell(value, named[name]) if name in named else value for name, value in row.items()}


def _renderer_of_tensors(request: PredictRequest, version: LoadedVersion, call: Call) -> Callable[[Tensors], Reply]:
    """For a model that has no language of its own: its tensors, and then what every answer says."""

    def render(outputs: Tensors) -> Reply:
        tensors = call.render(outputs)
        about = orjson.dumps(_about(request, version, call.rows))
        return replace(tensors, body=tensors.body[:-1] + b"," + about[1:])

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


def _files(request: PredictRequest, taken: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """The name and the bytes of each file or text of a form, in their order."""
    _, options = multipart.parse_options_header(request.headers[b"content-type"].decode("latin-1"))
    stream, size = io.BytesIO(request.whole), len(request.body)
    try:
        form = multipart.MultipartParser(
            stream, options.get("boundary", ""), size, part_limit=MAX_PARTS, spool_limit=size + 1, memory_limit=size + 1
        )
        parts = list(form)
    except (multipart.MultipartError, ValueError) as error:
        raise Invalid(f"The body is no form with files: {error}.") from error
    try:
        found = [(part.filename or part.name, part.raw) for part in parts]
        kinds = {part.content_type for part in parts if not _matches(part.content_type, taken)}
    finally:
        for part in parts:
            part.close()
    if not found:
        raise Invalid(f"The form has no file; expected one or more {taken[0]}.")
    if kinds - {"application/octet-stream"}:
        raise UnsupportedMedia(f"The form has parts of {sorted(kinds)}; expected {', '.join(taken)}.")
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
ROUTES: tuple[Route, ...] = (
    Route(re.compile(r"/api/v1/deployments/(?P<name>[^/]+)/predict/?"), "POST", PROTOCOL, verb="predict"),
    Route(re.compile(r"/api/v1/deployments/(?P<name>[^/]+)/shadow/?"), "GET", PROTOCOL, view=shadow),
)
