"""MiniStack with AWS's CRC-64/NVME: by AWS's library, and of the whole object.

MiniStack's own loop over bytes takes a second for 12 MB. Of a multipart upload it makes a checksum of the parts' checksums;
AWS knows a CRC-64/NVME of the whole object alone (docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).

MiniStack's Python runs this; its own packages come first. The argument is the folder that contains `awscrt`.
"""

import base64
import sys
from typing import Any

sys.path.append(sys.argv.pop())

from awscrt.checksums import crc64nvme
from ministack.app import main
from ministack.services import s3

CHECKSUM = "CRC64NVME"

assert s3._crc64nvme(b"123456789") == crc64nvme(b"123456789"), "the two count alike"
s3._crc64nvme = crc64nvme
complete, describe, composite = s3._complete_multipart_upload, s3._object_response_headers, s3._composite_checksum
parts: list[bytes] = []  # of the upload that is being completed; one at a time, by one thread


def complete_upload(bucket: str, key: str, body: bytes, query: Any, headers: Any) -> Any:
    """Complete an upload, whose parts `checksum_of_parts` needs."""
    upload = s3._multipart_uploads.get(s3._qp(query, "uploadId"), {})
    parts[:] = [part["body"] for _, part in sorted(upload.get("parts", {}).items())]
    return complete(bucket, key, body, query, headers)


def checksum_of_parts(algorithm: str, checksums: list[str]) -> str | None:
    """The checksum that an upload gets."""
    if algorithm != CHECKSUM:
        made: str | None = composite(algorithm, checksums)
        return made
    crc = 0
    for part in parts:
        crc = crc64nvme(part, crc)
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


def describe_object(*arguments: Any, **named: Any) -> dict[str, str]:
    """The headers of an object."""
    headers: dict[str, str] = describe(*arguments, **named)
    if "x-amz-checksum-crc64nvme" in headers:
        headers["x-amz-checksum-type"] = "FULL_OBJECT"
    return headers


s3._complete_multipart_upload, s3._object_response_headers = complete_upload, describe_object
s3._composite_checksum = checksum_of_parts
main()
