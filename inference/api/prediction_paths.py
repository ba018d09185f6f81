"""The plane's paths in the OpenAPI document: they are no views of Django's, so they are described here."""

from typing import Any

NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "description": "the deployment"}
TIMEOUT = {
    "name": "X-Request-Timeout",
    "in": "header",
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "seconds that the caller waits at most",
}
FILE = {"schema": {"type": "string", "format": "binary"}}
TEXT = {"schema": {"type": "string"}}
FORM = {"schema": {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}}
BODIES = {
    **dict.fromkeys(("image/jpeg", "image/png", "image/webp", "audio/*"), FILE),
    "text/plain": TEXT,
    "multipart/form-data": FORM,
}
ROWS = {
    "schema": {
        "type": "object",
        "properties": {
            "instances": {"type": "array", "description": "rows", "items": {}},
            "inputs": {"description": "columns: a tensor, or an object of tensors"},
            "signature_name": {"type": "string", "default": "serving_default"},
        },
    }
}
ANSWER = {
    "type": "object",
    "properties": {
        "label": {"type": "string"},
        "score": {"type": "number", "description": "the model's probability of the label"},
        "scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "text": {"type": "string", "description": "of a model that gives a text"},
        "predictions": {
            "type": "array",
            "items": {"type": "object"},
            "description": "where the request had several rows: what each would have been answered",
        },
        "request_id": {"type": "string", "format": "uuid"},
        "deployment": {"type": "string"},
        "model": {"type": "string"},
        "version": {"type": "integer"},
        "usage": {"type": "object"},
    },
}
EVENTS = "events `partial`, each replacing the one before, then one `result` (the answer) or `error` (a problem)"
SHADOW = {
    "model": {"type": "string"},
    "version": {"type": "integer"},
    "agreed": {"type": "integer", "description": "same names and shapes, numbers within one hundredth"},
    "differed": {"type": "integer"},
    "failed": {"type": "integer"},
    "dropped": {"type": "integer", "description": "not asked, because the host was busy or the shadow not loaded"},
}
REFUSALS = {
    "400": "the input is not what the model takes",
    "401": "no valid key",
    "403": "the key lacks the scope predict",
    "404": "no such deployment",
    "413": "the body is too large",
    "415": "the content type is not taken",
    "429": "the quota or the deployment's queue is full; see Retry-After",
    "503": "the host cannot answer right now; see Retry-After",
    "504": "the deadline passed",
}


def add(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular."""
    result["paths"] |= {
        "/api/v1/deployments/{name}/predict": {
            "post": _operation(
                "native_predict",
                "Predict, in the language of the task",
                content={**BODIES, "application/json": ROWS},
                answer=ANSWER,
                refusal="application/problem+json",
                events=True,
            )
        },
        "/api/v1/deployments/{name}/shadow": {
            "get": _operation(
                "native_shadow",
                "How the shadow has compared since this server process began",
                answer={"type": "object", "properties": SHADOW},
                refusal="application/problem+json",
            )
        },
        "/v1/models/{name}:predict": {
            "post": _operation(
                "tensorflow_serving_predict",
                "Predict, in TensorFlow Serving's REST protocol",
                content={"application/json": ROWS},
                answer={"type": "object", "properties": {"predictions": {"type": "array", "items": {}}, "outputs": {}}},
                refusal="application/json",
            )
        },
        "/v1/models/{name}": {"get": _operation("tensorflow_serving_status", "State of the version that is served")},
        "/v1/models/{name}/metadata": {
            "get": _operation("tensorflow_serving_metadata", "Signature of the version that is served")
        },
    }
    return result


def _operation(
    operation_id: str,
    summary: str,
    *,
    content: dict[str, Any] | None = None,
    answer: dict[str, Any] | None = None,
    refusal: str = "application/json",
    events: bool = False,
) -> dict[str, Any]:
    refusals = {
        status: {"description": words, "content": {refusal: {"schema": {"type": "object"}}}}
        for status, words in REFUSALS.items()
        if content or status in ("401", "403", "404", "503")
    }
    ok: dict[str, Any] = {"description": "", "content": {"application/json": {"schema": answer or {"type": "object"}}}}
    if events:
        ok["content"]["text/event-stream"] = {"schema": {"type": "string", "description": EVENTS}}
    operation: dict[str, Any] = {
        "operationId": operation_id,
        "summary": summary,
        "tags": ["Predictions"],
        "security": [{"ApiKey": []}],
        "parameters": [NAME, TIMEOUT] if content else [NAME],
        "responses": {"200": ok} | refusals,
    }
    if content:
        operation["requestBody"] = {"required": True, "content": content}
    return operation
