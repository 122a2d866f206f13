"""FastAPI and Celery with Redis, as a user would write it: the receiver, and a task for the whole job."""

import base64
import hashlib
import json
import os

import boto3
import nacl.bindings
import requests
from botocore.exceptions import ClientError
from celery import Celery
from fastapi import FastAPI, Request

KEY = base64.b64decode(os.environ["TELNYX_PUBLIC_KEY"])
celery = Celery("peer", broker=os.environ["REDIS_URL"])
celery.conf.task_ignore_result = True
app = FastAPI()


@app.post("/webhooks/telnyx")
async def receive(request: Request):
    body = await request.body()
    signature = base64.b64decode(request.headers["telnyx-signature-ed25519"])
    nacl.bindings.crypto_sign_open(signature + request.headers["telnyx-timestamp"].encode() + b"|" + body, KEY)
    archive.delay(json.loads(body)["data"]["payload"])
    return {}


_parts = {}


def clients():
    if not _parts:
        _parts["http"], _parts["s3"] = requests.Session(), boto3.client("s3")
    return _parts["http"], _parts["s3"]


def found(http, payload):
    key = {"Authorization": f"Bearer {os.environ['TELNYX_API_KEY']}"}
    address = f"{os.environ['TELNYX_BASE_URL']}/recordings/{payload['recording_id']}"
    recording = http.get(address, headers=key, timeout=30).json()["data"]
    return recording, f"{os.environ['RUN']}/{recording['recording_started_at'][:10]}/{recording['id']}/"


@celery.task
def archive(payload):
    http, s3 = clients()
    recording, prefix = found(http, payload)
    audio = http.get(recording["download_urls"]["wav"], timeout=60).content
    s3.put_object(Bucket="bucket", Key=prefix + "audio.wav", Body=audio)
    head = s3.head_object(Bucket="bucket", Key=prefix + "audio.wav")
    assert head["ContentLength"] == len(audio)
    recording["sha256"] = hashlib.sha256(audio).hexdigest()
    s3.put_object(Bucket="bucket", Key=prefix + "recording.json", Body=json.dumps(recording).encode())


@celery.task
def archive_with_promises(payload):
    """What Callvault promises: done once, nothing overwritten, proven, and listed in a proven record."""
    http, s3 = clients()
    recording, prefix = found(http, payload)
    if there(s3, prefix + "recording.json"):
        return
    audio = http.get(recording["download_urls"]["wav"], timeout=60).content
    recording["sha256"] = put_and_prove(s3, prefix + "audio.wav", audio)
    put_and_prove(s3, prefix + "recording.json", json.dumps(recording).encode())


def there(s3, key):
    try:
        return s3.head_object(Bucket="bucket", Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        return None


def put_and_prove(s3, key, body):
    assert not there(s3, key)  # the store may ignore the condition
    digest = hashlib.sha256(body).digest()
    s3.put_object(
        Bucket="bucket", Key=key, Body=body, IfNoneMatch="*", ChecksumSHA256=base64.b64encode(digest).decode()
    )
    head = there(s3, key)
    assert (head["ContentLength"], head["ETag"].strip('"')) == (len(body), hashlib.md5(body).hexdigest())
    return digest.hex()
