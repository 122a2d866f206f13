"""A small S3 server with the quirks of real stores that emulators lack, as a test asks for."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lab.servers import HttpServer
from lab.stores import S3_ENVIRONMENT


@dataclass
class Manners:
    """How it misbehaves.

    Attributes:
        checks: refuses a wrong SHA-256.
        echoes: returns the checksum that it was sent, whatever the bytes.
        refuses: a header, and the status and code it is refused with.
        conditions: keeps `If-None-Match`.
        conflicts: so many writes get 409 before one is accepted.
        flips: stores every object with a flipped byte and reports success.
        md5_etags: its ETags are MD5s.
        whole_etags: ETags of multipart objects are MD5s of all their bytes.
        failures: statuses of the next answers; these requests change nothing.
        refusals: statuses and codes that refuse the next writes, including those under `probe/`.
        probe_failures: the same for the probe of its checksums.
        loses_answers: so many puts are carried out, and the connection is cut instead of an answer.
        bad_digests: so many multipart uploads are refused when completed with a checksum of the whole.
        forgets_uploads: so many uploads have vanished when they are completed.
        unfinished: keys of uploads that others and we began in 2020.
        lists: the whole answer to a listing, or a status and code.
        reads: headers that every answer with an object gets, and its status, such as those of a wrong range.
        sends: the first byte of each object that it sends, and the end.
    """

    checks: bool = False
    echoes: bool = False
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    conditions: bool = True
    conflicts: int = 0
    flips: bool = False
    md5_etags: bool = True
    whole_etags: bool = False
    failures: list[int] = field(default_factory=list)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    probe_failures: list[tuple[int, str]] = field(default_factory=list)
    loses_answers: int = 0
    bad_digests: int = 0
    forgets_uploads: int = 0
    unfinished: tuple[str, ...] = ()
    lists: str | tuple[int, str] = ""
    reads: tuple[int, dict[str, str]] = (200, {})
    sends: tuple[int, int | None] = (0, None)


class AwkwardS3:
    """The server.

    Attributes:
        objects: its contents.
        seen: the headers of every write.
        asked: method and path of every other request.
        codings: the content codings that the requests for objects accept.
    """

    def __init__(self, manners: Manners) -> None:
        self.lock = threading.Lock()
        self.begin(manners)
        awkward = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                awkward.write(self)

            def do_POST(self) -> None:
                awkward.write(self)

            def do_GET(self) -> None:
                awkward.read(self)

            def do_HEAD(self) -> None:
                awkward.read(self)

            def do_DELETE(self) -> None:
                awkward.delete(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HttpServer(Handler)
        self.port = self.server.server_port
        self.environment = S3_ENVIRONMENT | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}"}

    def begin(self, manners: Manners) -> None:
        """Be an empty server with these manners."""
        with self.lock:
            self.manners = manners
            self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
            self.uploads: dict[str, dict[int, bytes]] = {}
            self.aborted: list[str] = []
            self.seen: list[dict[str, str]] = []
            self.asked: list[tuple[str, str]] = []
            self.codings: set[str] = set()

    def stop(self) -> None:
        self.server.stop()

    def answer(self, request: Any, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(body)) if "content-length" not in (headers or {}) else "0")
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def refuse(self, request: Any, status: int, code: str) -> None:
        self.answer(request, status, f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode())

    def write(self, request: Any) -> None:
        headers = {k.lower(): v for k, v in request.headers.items()}
        length = int(headers.get("content-length", 0))
        sent = request.rfile.read(length)
        if len(sent) < length:  # cut on its way: no store accepts it
            request.close_connection = True
            return
        path, query = (
            unquote(urlsplit(request.path).path),
            parse_qs(urlsplit(request.path).query, keep_blank_values=True),
        )
        body = self._spoiled(sent, path)
        self.seen.append(headers | {"method": request.command, "path": path, "query": str(query)})
        manners = self.manners
        with self.lock:
            if manners.failures and "/probe/" not in path:
                self.refuse(request, manners.failures.pop(0), "SlowDown")
                return
            passing = manners.probe_failures if path.endswith("/probe/checksum") else manners.refusals
            if passing:
                self.refuse(request, *passing.pop(0))
                return
            for name, (status, code) in manners.refuses.items():
                if any(name in value if h == "content-encoding" else h == name for h, value in headers.items()):
                    self.refuse(request, status, code)
                    return
            if "uploads" in query:
                upload_id = f"upload-{len(self.uploads)}-{time.time_ns()}"
                self.uploads[upload_id] = {}
                xml = f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
                self.answer(request, 200, xml.encode())
                return
            is_probe = path.endswith("/probe/multipart")
            if "uploadId" in query and "partNumber" not in query and manners.forgets_uploads and not is_probe:
                manners.forgets_uploads -= 1
                self.uploads.pop(query["uploadId"][0], None)
            if "uploadId" in query and query["uploadId"][0] not in self.uploads:
                self.refuse(request, 404, "NoSuchUpload")
                return
            is_of_whole = "x-amz-checksum-crc64nvme" in headers and "partNumber" not in query
            if is_of_whole and manners.bad_digests and not is_probe:
                manners.bad_digests -= 1
                self.refuse(request, 400, "BadDigest")
                return
            if "partNumber" in query:
                self.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
                self.answer(request, 200, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
                return
            if headers.get("if-none-match") == "*" and manners.conditions and path in self.objects:
                self.refuse(request, 412, "PreconditionFailed")
                return
            if manners.conflicts and "/probe/" not in path:
                manners.conflicts -= 1
                self.refuse(request, 409, "ConditionalRequestConflict")
                return
            claimed = headers.get("x-amz-checksum-sha256", "")
            if manners.checks and claimed and base64.b64decode(claimed) != hashlib.sha256(body).digest():
                self.refuse(request, 400, "BadDigest")
                return
            kept: dict[str, str] = {}
            if "uploadId" in query:
                parts = self.uploads.pop(query["uploadId"][0])
                data = b"".join(parts[n] for n in sorted(parts))
                md5s = b"".join(hashlib.md5(parts[n]).digest() for n in sorted(parts))
                kept["ETag"] = f'"{hashlib.md5(md5s).hexdigest()}-{len(parts)}"'
            else:
                data = body
            if "uploadId" not in query or manners.whole_etags:
                kept["ETag"] = f'"{hashlib.md5(data).hexdigest()}"'
            if not manners.md5_etags:
                kept["ETag"] = f'"opaque-{time.time_ns()}"'
            if claimed and (manners.echoes or manners.checks):
                kept["x-amz-checksum-sha256"] = claimed
            self.objects[path] = (data, kept)
            if manners.loses_answers and "/probe/" not in path:
                manners.loses_answers -= 1
                request.close_connection = True
                return
        done = b"<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>"
        self.answer(request, 200, done if "uploadId" in query else b"", kept)

    def _spoiled(self, body: bytes, path: str) -> bytes:
        if not self.manners.flips or len(body) < 900 or "/probe/" in path:  # not a multipart's list of parts
            return body
        return body[:-1] + bytes([body[-1] ^ 1])

    def delete(self, request: Any) -> None:
        path, query = unquote(urlsplit(request.path).path), parse_qs(urlsplit(request.path).query)
        if "uploadId" in query:
            self.uploads.pop(query["uploadId"][0], None)
            self.aborted.append(path)
        else:
            self.objects.pop(path, None)
        self.answer(request, 204)

    def read(self, request: Any) -> None:
        path = unquote(urlsplit(request.path).path)
        query = parse_qs(urlsplit(request.path).query, keep_blank_values=True)
        self.asked.append((request.command, path))
        if request.command == "GET":
            self.codings.add(request.headers.get("accept-encoding", ""))
        if "uploads" in query:
            begun = "<Initiated>2020-01-01T00:00:00.000Z</Initiated>"
            uploads = "".join(
                f"<Upload><Key>{k}</Key><UploadId>u</UploadId>{begun}</Upload>" for k in self.manners.unfinished
            )
            self.answer(request, 200, f"<ListMultipartUploadsResult>{uploads}</ListMultipartUploadsResult>".encode())
            return
        if "versions" in query or "list-type" in query:
            lists = self.manners.lists
            if isinstance(lists, str):
                self.answer(request, 200, lists.encode())
            else:
                self.refuse(request, *lists)
            return
        found = self.objects.get(path)
        if found is None:
            self.refuse(request, 404, "NoSuchKey")
            return
        data, kept = found
        headers = kept | {"accept-ranges": "bytes", "last-modified": "Wed, 25 Nov 2026 10:00:00 GMT"}
        if request.command == "HEAD":
            request.send_response(200)
            for name, value in headers.items():
                request.send_header(name, value)
            request.send_header("content-length", str(len(data)))
            request.end_headers()
            return
        status, added = self.manners.reads
        self.answer(request, status, data[slice(*self.manners.sends)], headers | added)
