"""Traces: sent by OTLP over HTTP to a stand-in for a collector, which is a small server of this test's own."""

import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from inference.plane import routes, tracing
from tests.inference.conftest import PlaneSite
from tests.live import ROOT, free_port

BODY = {"instances": [[1, 2, 3, 4], [5, 6, 7, 8]]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STANDARD = (
    "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
)  # fmt: skip


@dataclass
class Collector:
    """Stands in for a collector: keeps every span that is sent to it."""

    spans: list[tuple[dict[str, Any], Span]] = field(default_factory=list)
    url: str = ""

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        for one in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = attributes_of(one.resource.attributes)
            self.spans += [(resource, span) for scope in one.scope_spans for span in scope.spans]

    def of(self, request_id: str) -> list[Span]:
        """The spans of a request's trace, the oldest first."""
        (root,) = [
            span for _, span in self.spans if attributes_of(span.attributes).get("aiaas.request_id") == request_id
        ]
        trace = [span for _, span in self.spans if span.trace_id == root.trace_id]
        return sorted(trace, key=lambda span: (span.span_id != root.span_id, span.start_time_unix_nano))


def attributes_of(given: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in given}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.take(self.path, gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *about: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def ask(plane: PlaneSite, port: int, path: str = "/v1/models/tiny:predict", **headers: str) -> str:
    """Asks, and gives the request's id."""
    sent = {name: value.encode("latin-1") for name, value in ({"X-API-Key": plane.acme_key} | headers).items()}
    answer = httpx.post(f"http://127.0.0.1:{port}{path}", json=BODY, headers=[(n.encode(), v) for n, v in sent.items()])
    return answer.headers["x-request-id"]


def test_each_request_is_a_span_with_its_queue_and_its_engine(plane: PlaneSite, collector: Collector) -> None:
    port = free_port()
    server = plane.site.start_server(port=port, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    began = time.time_ns()
    plain = ask(plane, port)
    told = ask(plane, port, traceparent=f"00-{TRACE}-{PARENT}-01")
    unsampled = ask(plane, port, traceparent=f"00-{'1' * 32}-{PARENT}-00")
    garbled = ask(plane, port, traceparent="00-zz-\xff-01;DROP")
    missing = ask(plane, port, "/v2/models/none/versions/7/infer")
    nowhere = ask(plane, port, "/v1/nowhere/at/all")
    server.terminate()  # what is not sent yet is sent now
    server.wait(30)

    root, queue, compute = collector.of(plain)
    assert (root.name, root.kind) == ("POST /v1/models/{name}:predict", Span.SPAN_KIND_SERVER)
    about = attributes_of(root.attributes)
    assert about.pop("aiaas.tenant").startswith("ten_")
    assert about == {
        "http.request.method": "POST", "http.route": "/v1/models/{name}:predict", "http.response.status_code": 200,
        "aiaas.request_id": plain, "aiaas.protocol": "tensorflow-serving", "aiaas.deployment": "tiny",
        "aiaas.version": "tiny@1", "aiaas.rows": 2,
    }  # fmt: skip
    assert [(one.name, one.parent_span_id) for one in (queue, compute)] == [
        ("queue", root.span_id), ("compute", root.span_id),
    ]  # fmt: skip
    times = [root.start_time_unix_nano, queue.start_time_unix_nano, queue.end_time_unix_nano,
             compute.start_time_unix_nano, compute.end_time_unix_nano, time.time_ns()]  # fmt: skip
    assert times == sorted(times)
    assert began - 1_000_000 <= times[0]
    assert attributes_of(compute.attributes)["aiaas.rows"] == 2
    assert {resource["service.name"] for resource, _ in collector.spans} == {"aiaas-plane"}

    root, *_ = collector.of(told)
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    assert unsampled not in str(collector.spans)
    assert collector.of(garbled)[0].parent_span_id == b""
    (root,) = collector.of(missing)
    assert root.name == "POST /v2/models/{name}/versions/{version}/infer"
    assert "aiaas.deployment" not in attributes_of(root.attributes)
    assert collector.of(nowhere)[0].name == "POST"
    assert plane.acme_key not in str(collector.spans)


def test_the_samplers_and_the_services_name_are_the_environments(plane: PlaneSite, collector: Collector) -> None:
    port = free_port()
    before = len(collector.spans)
    server = plane.site.start_server(
        port=port, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces", OTEL_SERVICE_NAME="cats-plane",
        OTEL_TRACES_SAMPLER="parentbased_always_off",
    )  # fmt: skip
    for _ in range(5):
        ask(plane, port)
    told = ask(plane, port, traceparent=f"00-{'2' * 32}-{PARENT}-01")
    server.terminate()
    server.wait(30)
    assert len(collector.of(told)) == len(collector.spans) - before == 3
    assert collector.spans[-1][0]["service.name"] == "cats-plane"


def test_a_collector_that_is_not_there_costs_no_request_and_no_stop(plane: PlaneSite) -> None:
    port = free_port()
    server = plane.site.start_server(port=port, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    for _ in range(3):
        ask(plane, port)
    started = time.monotonic()
    server.terminate()
    assert server.wait(30) == 0
    assert time.monotonic() - started < 15


def test_without_the_variables_nothing_is_imported() -> None:
    code = (
        "import asyncio, sys, aiaas_site.asgi; from inference.plane import tracing;"
        "assert tracing.from_environment() is None; sys.exit(any(n.startswith('opentelemetry') for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in STANDARD:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_traces_are_off(environment: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    assert tracing.from_environment() is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "names 'zipkin'; expected otlp or console"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "'grpc'; expected http/protobuf"),
    ],
)
def test_what_is_not_spoken_is_said(environment: pytest.MonkeyPatch, given: dict[str, str], words: str) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=words):
        tracing.from_environment()


@pytest.mark.parametrize(
    ("method", "path", "template"),
    [
        ("POST", "/V1/Models/Cats:PREDICT/", "/v1/models/{name}:predict"),
        ("POST", "/v1/models/a/labels/b:predict", "/v1/models/{name}/labels/{label}:predict"),
        ("POST", "/v1/models/a:whatever", "/v1/models/{name}:{method}"),
        ("GET", "/v2/models/a/versions/3/stats", "/v2/models/{name}/versions/{version}/stats"),
        ("GET", "/v2/cudasharedmemory/region/x/status", "/v2/cudasharedmemory/{rest}"),
        ("GET", "/v2/models/a/trace/setting", "/v2/models/{model}/trace/setting"),
        ("GET", "/", "/"),
    ],
)
def test_a_routes_template_has_nothing_of_the_callers(method: str, path: str, template: str) -> None:
    assert routes.template_of(routes.find(method, path).route, path) == template


def test_spans_on_the_console(plane: PlaneSite, tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out"
    with out.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "aiaas_site.server", "--port", str(port)],
            cwd=ROOT, env=plane.site.env | {"OTEL_TRACES_EXPORTER": "console"}, stdout=file,
        )  # fmt: skip
        plane.site.processes.append(server)
        plane.site.wait_until_ready(server, f"http://127.0.0.1:{port}")
        request_id = ask(plane, port)
        server.terminate()
        server.wait(30)
    assert json.dumps(request_id) in out.read_text()
