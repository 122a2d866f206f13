"""Traces by OpenTelemetry, from a webhook to the commit record of what it told of; off unless the environment asks for it.

The SDK reads its own variables (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables): they are set
where `OTEL_EXPORTER_OTLP_ENDPOINT` is. Spans carry ids and the kinds of errors, never an error's text, a number, a word that
was said, or an address.
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
    """Start tracing this process, if the environment says where traces go.

    Args:
        program: which part this is; the service is called `callvault-serve` or `callvault-worker` unless it is named.

    Raises:
        UserError: traces are asked for, and the packages are not there.
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
        raise UserError(f"{asked} is set, and OpenTelemetry is not there: pip install 'callvault[traces]'") from None
    os.environ.setdefault("OTEL_SERVICE_NAME", f"callvault-{program}")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _tracer = trace.get_tracer("callvault")


def span(name: str, parent: object = None, **attributes: str | None) -> AbstractContextManager[str | None]:
    """A span for the length of the block, within the one that is open.

    Args:
        name: of the step, one of few.
        parent: the `traceparent` (w3.org/TR/trace-context) of a span elsewhere, as this function gave it there; anything
            else is left aside.
        attributes: ids.

    Returns:
        What gives its own `traceparent`, or None while tracing is off.
    """
    return _OFF if _tracer is None else _span(name, parent, attributes)


@contextmanager
def _span(name: str, parent: object, attributes: dict[str, str | None]) -> Iterator[str | None]:
    from opentelemetry.trace import StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    context = propagator.extract({"traceparent": parent}) if isinstance(parent, str) else None
    known = {f"callvault.{key}": value for key, value in attributes.items() if value is not None}
    # Left to itself, the SDK would send the text and stack of what is raised.
    quiet = {"record_exception": False, "set_status_on_exception": False}
    with _tracer.start_as_current_span(name, context=context, attributes=known, **quiet) as opened:
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        try:
            yield carrier.get("traceparent")
        except Exception as error:
            opened.set_status(StatusCode.ERROR, type(error).__name__)
            raise
