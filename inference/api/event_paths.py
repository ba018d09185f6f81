"""The streams of events in the OpenAPI document: the server's event loop answers them, not Django."""

from typing import Any

ID = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}}
LAST = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The last event that was seen: it is not sent again.",
}
STREAM = {
    "description": "Events `progress`, then one `end`, each with the id, the state and the rows as JSON.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
REFUSALS = {
    "401": "no valid key",
    "403": "the key lacks the scope read",
    "404": "no such batch prediction",
    "429": "too many streams of yours; see Retry-After",
    "503": "too many streams on this server; see Retry-After",
}


def add(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular."""
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refusals = {status: {"description": words, "content": problem} for status, words in REFUSALS.items()}
    seen_all = {"description": "The end was the last event that the client saw."}
    result["paths"]["/api/v1/batch-predictions/{job_id}/events"] = {
        "get": {
            "operationId": "follow_batch_prediction",
            "description": "Its progress as server-sent events, until it has ended.",
            "tags": ["Batch predictions"],
            "security": [{"ApiKey": []}],
            "parameters": [ID, LAST],
            "responses": {"200": STREAM, "204": seen_all} | refusals,
        }
    }
    return result
