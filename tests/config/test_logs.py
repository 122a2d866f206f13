"""Log lines are JSON, from us and from libraries."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

_PROGRAM = """
import logging
from process.logs import bound_fields, configure_logs, get_logger
configure_logs("info", program="serve")
log = get_logger()
log.debug("too small")
log.info("started 100 %", port=8080, path=object)
logging.getLogger("uvicorn.error").info("Started %s", "it", extra={"color_message": "x", "pid": 7})
logging.getLogger("httpx").info("HTTP Request: GET https://secret")
with bound_fields(job_id="j", name="n"):
    with bound_fields(recording_id="r"):
        log.warning("inside")
    logging.getLogger("library").warning("beside")
try:
    raise ValueError("why")
except ValueError:
    log.error("failed", exc_info=True)
"""


def test_a_line_is_json_with_its_fields_whoever_wrote_it() -> None:
    ran = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert all(line.pop("timestamp").endswith("Z") and line.pop("program") == "serve" for line in lines)
    assert "ValueError: why" in lines[-1].pop("exception")
    assert lines == [
        {"event": "started 100 %", "level": "info", "port": 8080, "path": "<class 'object'>"},
        {"event": "Started it", "level": "info", "pid": 7},
        {"event": "inside", "level": "warning", "job_id": "j", "name": "n", "recording_id": "r"},
        {"event": "beside", "level": "warning", "job_id": "j", "name": "n"},
        {"event": "failed", "level": "error"},
    ]


def test_a_person_at_a_terminal_gets_lines_to_read() -> None:
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", _PROGRAM], stderr=theirs, check=True)
    text = os.read(ours, 65536).decode()
    os.close(theirs)
    os.close(ours)
    assert "started 100 %" in text and "port" in text and "ValueError: why" in text
    assert not text.startswith("{")


_TALKING_LIBRARIES = """
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from process.logs import configure_logs, get_logger
configure_logs("debug", program="worker")
import apprise, requests
class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
place = f"127.0.0.1:{server.server_port}"
assert requests.post(f"http://{place}/container/key?sig=SIGNATURE", timeout=10).ok
witness = apprise.Apprise()
assert witness.add(f"json://{place}/TOKEN") and witness.notify("body")
get_logger().debug("small")
"""


def test_at_the_least_severity_no_library_writes_the_secrets_of_an_address() -> None:
    ran = subprocess.run([sys.executable, "-c", _TALKING_LIBRARIES], capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in ran.stderr.splitlines()] == ["small"]
