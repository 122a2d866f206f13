"""OpenTelemetry traces, from a webhook to the commit record; off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

The SDK reads its own environment variables (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables).
Spans carry ids and error types, never the text of an error, a phone number, a transcript or a URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from text.errors import UserError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_OFF: AbstractContextManager[str | None] = nullcontext()
_tracer: Any = None


def open_tracing(program: str) -> None:
    """Start tracing this process if the environment names an endpoint.

    Args:
        program: `serve` or `worker`; the default service name is `callvault-serve` or `callvault-worker`.

    Raises:
        UserError: an endpoint is set, but OpenTelemetry is not installed.
    """
    global _tracer
    asked = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if asked is None:
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise UserError(
            f"{asked} is set, but OpenTelemetry is not installed; run pip install 'callvault[traces]'"
        ) from None
    os.environ.setdefault("OTEL_SERVICE_NAME", f"callvault-{program}")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _tracer = trace.get_tracer("callvault")


def span(name: str, parent: object = None, **attributes: str | None) -> AbstractContextManager[str | None]:
    """Open a span for the length of the block, inside the current one.

    Args:
        name: of the step.
        parent: the `traceparent` (w3.org/TR/trace-context) that this function returned in another process; any other
            value is ignored.
        attributes: ids.

    Returns:
        A context manager that yields the span's own `traceparent`, or None while tracing is off.
    """
    return _OFF if _tracer is None else _span(name, parent, attributes)


@contextmanager
def _span(name: str, parent: object, attributes: dict[str, str | None]) -> Iterator[str | None]:
    from opentelemetry.trace import StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    context = propagator.extract({"traceparent": parent}) if isinstance(parent, str) else None
    known = {f"callvault.{key}": value for key, value in attributes.items() if value is not None}
    # By default the SDK sends the text and stack trace of an exception.
    quiet = {"record_exception": False, "set_status_on_exception": False}
    with _tracer.start_as_current_span(name, context=context, attributes=known, **quiet) as opened:
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        try:
            yield carrier.get("traceparent")
        except Exception as error:
            opened.set_status(StatusCode.ERROR, type(error).__name__)
            raise
