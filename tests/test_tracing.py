"""A trace leads from the webhook to the commit record and reaches a real OTLP receiver; off by default."""

from __future__ import annotations

import asyncio
import gzip
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lab.processes import callvault, receiver, run_callvault, wait_for
from lab.servers import HttpServer, RunningSandbox
from workers.engine.connect import connect_worker
from workers.queue.jobs import enqueue
from workers.recordings.requests import RecordingRequest, recording_job


class _Collector(HttpServer):
    """Receives spans as OTLP over HTTP (opentelemetry.io/docs/specs/otlp)."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                for one in ExportTraceServiceRequest.FromString(body).resource_spans:
                    named = {a.key: a.value.string_value for a in one.resource.attributes}
                    collector.services.add(named["service.name"])
                    collector.spans += [span for scope in one.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        super().__init__(Handler)


async def _ask(redis_url: str, request: RecordingRequest) -> None:
    client = connect_worker(redis_url)
    await enqueue(client, recording_job(request))
    await client.aclose()


def test_a_trace_leads_from_the_webhook_to_the_commit_record(
    sandbox: RunningSandbox, environment: dict[str, str]
) -> None:
    collector = _Collector()
    traced = environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    with (
        receiver(traced) as (_, serve),
        callvault(["worker"], traced, "worker ready") as worker,
    ):
        (recording,) = sandbox.control("calls", webhook_url=serve.webhooks, seconds=1)["recordings"]
        worker.wait_for_output("recording archived")
        assert (serve.stop(), worker.stop()) == (0, 0)  # the rest is sent at the end
    wait_for(lambda: {span.name for span in collector.spans} >= {"webhook", "commit"}, what="the spans")
    collector.stop()
    (root,) = (span for span in collector.spans if span.name == "webhook")
    of_one = {span.name: span for span in collector.spans if span.trace_id == root.trace_id}
    assert set(of_one) == {"webhook", "archive_recording", "find", "fetch and archive", "commit"}
    job = of_one["archive_recording"]
    assert job.parent_span_id == root.span_id
    assert all(of_one[name].parent_span_id == job.span_id for name in ("find", "fetch and archive", "commit"))
    found = {a.key: a.value.string_value for a in job.attributes}
    assert found["callvault.recording_id"] == recording and found["callvault.event_id"]
    assert collector.services == {"callvault-serve", "callvault-worker"}
    everything = str(collector.spans)
    data = sandbox.world.recordings[recording].data
    assert data["from"] not in everything and data["to"] not in everything


def test_a_failed_step_shows_the_kind_of_error_without_its_text(
    sandbox: RunningSandbox, environment: dict[str, str], redis_url: str
) -> None:
    collector = _Collector()
    traced = environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    asyncio.run(_ask(redis_url, RecordingRequest(event_id="e", recording_id="no-such-recording")))
    with callvault(["worker"], traced, "worker ready") as worker:
        worker.wait_for_output("is not at Telnyx")
        assert worker.stop() == 0
    wait_for(lambda: any(span.name == "find" for span in collector.spans), what="the spans")
    collector.stop()
    (failed, *_) = (span for span in collector.spans if span.name == "find")
    assert (failed.status.code, failed.status.message) == (2, "NotFound")
    assert "is not at Telnyx" not in str(collector.spans) and not any(span.events for span in collector.spans)


def test_without_the_packages_asking_for_traces_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError")
    environment = {
        "PYTHONPATH": str(tmp_path),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "TELNYX_API_KEY": "KEY",
        "CALLVAULT_DATA": str(tmp_path / "data"),
    }
    done = run_callvault(["worker"], environment)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "callvault: OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed; run pip install 'callvault[traces]'"
    )


@pytest.mark.parametrize("parent", ["", "00-zz-zz-01", "x" * 5000])
def test_an_invalid_trace_harms_no_job(
    parent: str, sandbox: RunningSandbox, environment: dict[str, str], redis_url: str
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    asyncio.run(_ask(redis_url, RecordingRequest(event_id="e", recording_id=recording.data["id"], trace=parent)))
    with callvault(["worker"], environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) as worker:
        worker.wait_for_output("recording archived")
