"""Whether there are traces: what OpenTelemetry's standard variables say; where they are not set, it is not imported."""

import os
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from inference.plane.traces import Traces

EXPORTERS = ("otlp", "console")
PROTOCOL = "http/protobuf"


def from_environment() -> "Traces | None":
    """The traces that the environment asks for; none where it names neither a collector nor an exporter."""
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    collector = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or wanted == "none" or not (wanted or collector):
        return None
    exporters = [name.strip() for name in (wanted or "otlp").split(",")]
    for name in exporters:
        if name not in EXPORTERS:
            raise ImproperlyConfigured(f"OTEL_TRACES_EXPORTER names {name!r}; expected {' or '.join(EXPORTERS)}.")
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if "otlp" in exporters and protocol not in (None, "", PROTOCOL):
        raise ImproperlyConfigured(f"The protocol of OTLP is set to {protocol!r}; expected {PROTOCOL}.")
    from inference.plane.traces import Traces

    return Traces(exporters)
