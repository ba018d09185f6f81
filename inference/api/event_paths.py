"""The streams of events in the OpenAPI document: the server's event loop answers them, not Django."""

from typing import Any

ID = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}}
LAST = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The last event that was seen: it is not sent again.",
}
STREAM = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
OF_BATCHES = "Events `progress`, then one `end`, each with the id, the state and the rows as JSON."
OF_TRAININGS = (
    "Events with JSON: `state` (state, attempt, error, stop_reason), `epoch` (the metrics of one), `log` (number, at, "
    "text) and `progress`. The last one is the `state` in which it ended. An id says how much was seen."
)
REFUSALS = {
    "401": "no valid key",
    "403": "the key lacks the scope read",
    "404": "no such job",
    "429": "too many streams of yours; see Retry-After",
    "503": "too many streams on this server; see Retry-After",
}


def add(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular."""
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refusals = {status: {"description": words, "content": problem} for status, words in REFUSALS.items()}
    seen_all = {"description": "The end was the last event that the client saw."}
    for path, operation, words, tag, events in (
        ("batch-predictions", "follow_batch_prediction", "Its progress", "Batch predictions", OF_BATCHES),
        ("training-jobs", "follow_training_job", "Its metrics, log and progress", "Training", OF_TRAININGS),
    ):
        result["paths"][f"/api/v1/{path}/{{job_id}}/events"] = {
            "get": {
                "operationId": operation,
                "description": f"{words} as server-sent events, until it has ended.",
                "tags": [tag],
                "security": [{"ApiKey": []}],
                "parameters": [ID, LAST],
                "responses": {"200": STREAM | {"description": events}, "204": seen_all} | refusals,
            }
        }
    return result
