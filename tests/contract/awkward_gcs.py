"""A small server of Google Cloud Storage with the quirks that a test asks for."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

from lab.servers import HttpServer


@dataclass
class GcsManners:
    """How it misbehaves.

    Attributes:
        spoils_answers: the answer to an upload has another checksum than the object.
        flips: stores every object with a flipped byte, and reports its true checksum.
        keeps_half: of so many blocks only the first half is kept.
        forgets: so many uploads have vanished when their next block arrives.
        loses_answers: so many last blocks are carried out, and the connection is cut instead of an answer.
        replaces: an object is replaced after its first block was read.
        shifts: an answer with a part of an object has so many bytes of the object too early, and says so.
        statuses: of the next answers.
    """

    spoils_answers: bool = False
    flips: bool = False
    keeps_half: int = 0
    forgets: int = 0
    loses_answers: int = 0
    replaces: bool = False
    shifts: int = 0
    statuses: list[int] = field(default_factory=list)


class AwkwardGcs:
    """The server; `objects` are its contents, `deleted` the requested deletions."""

    def __init__(self, manners: GcsManners) -> None:
        self.manners = manners
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, bytearray]] = {}
        self.deleted: list[str] = []
        self.generation = 1
        awkward = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length)
                if len(body) < length:  # cut on its way: no store accepts it
                    self.close_connection = True
                    return
                awkward.take(self, body)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HttpServer(Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.environment = {"STORAGE_EMULATOR_HOST": self.url, "GOOGLE_CLOUD_PROJECT": "test"}

    def stop(self) -> None:
        self.server.stop()

    def answer(self, request: Any, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def take(self, request: Any, body: bytes) -> None:
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        name = unquote(parts.path.partition("/o/")[2])
        if self.manners.statuses:
            self.answer(request, self.manners.statuses.pop(0))
        elif request.command == "POST":
            upload = str(len(self.uploads))
            self.uploads[upload] = (json.loads(body)["name"], bytearray())
            self.answer(request, 200, headers={"location": f"{self.url}/session?upload_id={upload}"})
        elif request.command == "PUT":
            self.block(request, query["upload_id"][0], body)
        elif request.command == "DELETE":
            self.deleted.append(name)
            self.answer(request, 204)
        elif name not in self.objects:
            self.answer(request, 404)
        elif query.get("alt") == ["media"]:
            self.read(request, name, query)
        else:
            self.answer(request, 200, self.described(name), {"content-type": "application/json"})

    def block(self, request: Any, upload: str, body: bytes) -> None:
        manners = self.manners
        if manners.forgets:
            manners.forgets -= 1
            self.answer(request, 404)
            return
        name, kept = self.uploads[upload]
        total = request.headers["content-range"].rpartition("/")[2]
        if manners.keeps_half and total == "*":
            manners.keeps_half -= 1
            body = body[: len(body) // 2]
        kept += body
        if total == "*":
            self.answer(request, 308, headers={"range": f"bytes=0-{len(kept) - 1}"})
            return
        if name not in self.objects:  # a block that comes again after the last changes nothing
            data = bytes(kept)
            self.objects[name] = data[:-1] + bytes([data[-1] ^ 1]) if manners.flips else data
        if manners.loses_answers:
            manners.loses_answers -= 1
            request.close_connection = True
            return
        self.answer(request, 200, self.described(name, is_spoiled=manners.spoils_answers))

    def read(self, request: Any, name: str, query: dict[str, list[str]]) -> None:
        if query.get("ifGenerationMatch", [str(self.generation)]) != [str(self.generation)]:
            self.answer(request, 412)
            return
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        data, start, end = self.objects[name], int(first) - self.manners.shifts, int(last) + 1 - self.manners.shifts
        self.answer(request, 206, data[start:end], {"content-range": f"bytes {start}-{end - 1}/{len(data)}"})
        if self.manners.replaces:
            self.generation += 1

    def described(self, name: str, *, is_spoiled: bool = False) -> bytes:
        data = self.objects[name]
        crc = base64.b64encode(google_crc32c.Checksum(b"other" if is_spoiled else data).digest()).decode()
        facts = {"name": name, "size": str(len(data)), "generation": str(self.generation), "crc32c": crc}
        return json.dumps(facts).encode()
