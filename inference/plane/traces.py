"""A span for each exchange, made when it has ended, from the times that were measured on its way.

Two spans hang below it where an engine was asked: `queue`, and `compute` from the batch's beginning to the answer. A
caller's `traceparent` is taken up. Spans are sent in batches by a thread of the SDK's own.
"""

import threading
from collections.abc import Iterable, Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference.plane import routes
from inference.plane.exchange import Answer, Exchange
from inference.plane.settling import protocol_of

SERVICE = "aiaas-plane"
STOP_SECONDS = 8.0
CONTEXT_HEADERS = ("traceparent", "tracestate")


class Traces:
    """The spans of this process."""

    def __init__(self, exporters: Iterable[str]) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for name in exporters:
            exporter = OTLPSpanExporter() if name == "otlp" else ConsoleSpanExporter()
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("inference.plane")
        self._propagator = TraceContextTextMapPropagator()

    def ended(self, exchange: Exchange, answer: Answer, total_us: int) -> None:
        """The answer has gone, or the caller has."""
        began = exchange.admitted_ms * 1_000_000
        ended = began + total_us * 1000
        attributes = _attributes(exchange, answer)
        span = self._tracer.start_span(
            f"{exchange.request.head.method} {attributes.get('http.route', '')}".rstrip(),
            context=self._parent(exchange),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=began,
        )
        if span.is_recording():
            if answer.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            self._engines(exchange, span, began=began, ended=ended)
        span.end(ended)

    def close(self) -> None:
        """Sends what is left; a collector that does not answer is not waited for longer than a few seconds."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(STOP_SECONDS)

    def _parent(self, exchange: Exchange) -> Context | None:
        headers = exchange.request.head.headers
        if b"traceparent" not in headers:
            return None
        carrier = {name: headers.get(name.encode(), b"").decode("latin-1") for name in CONTEXT_HEADERS}
        return self._propagator.extract(carrier, Context())

    def _engines(self, exchange: Exchange, span: Span, *, began: int, ended: int) -> None:
        """The queue's span and the engine's."""
        work = exchange.work
        if work is None or not work.taken_at:
            return
        queued = began + int((work.queued_at - exchange.started) * 1e9)
        taken = began + int((work.taken_at - exchange.started) * 1e9)
        context = set_span_in_context(span, Context())
        self._tracer.start_span("queue", context, start_time=queued).end(taken)
        about = {"aiaas.rows": work.rows, "aiaas.compute_us": work.compute_us}
        self._tracer.start_span("compute", context, attributes=about, start_time=taken).end(max(taken, ended))


def _attributes(exchange: Exchange, answer: Answer) -> Mapping[str, str | int]:
    """What is known of an exchange and may be told: names of ours, never what a caller wrote at will."""
    found: dict[str, str | int] = {
        "http.request.method": exchange.request.head.method,
        "http.response.status_code": answer.status,
        "aiaas.request_id": exchange.id,
        "aiaas.protocol": routes.name_of(protocol_of(exchange)),
    }
    if exchange.found is not None:
        found["http.route"] = routes.template_of(exchange.found.route, exchange.request.head.path)
    if exchange.key is not None:
        found["aiaas.tenant"] = exchange.key.tenant.id
    if exchange.deployment is not None:
        found["aiaas.deployment"] = exchange.deployment.name
    if exchange.version is not None:
        found["aiaas.version"] = exchange.version.entry.label
    if exchange.call is not None:
        found["aiaas.rows"] = exchange.call.rows
    return found


def _resource() -> Resource:
    """What the environment says of this service, which has a name in any case."""
    found = Resource.create()
    named = str(found.attributes.get(SERVICE_NAME, ""))
    return found.merge(Resource({SERVICE_NAME: SERVICE})) if named.startswith("unknown_service") else found
