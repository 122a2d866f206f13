"""FastAPI and Celery with Redis, as a user would write it: the receiver, and a task that does the whole job."""

import base64
import hashlib
import json
import os

import boto3
import nacl.bindings
import requests
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


@celery.task
def archive(payload):
    if not _parts:
        _parts["http"], _parts["s3"] = requests.Session(), boto3.client("s3")
    http, s3 = _parts["http"], _parts["s3"]
    key = {"Authorization": f"Bearer {os.environ['TELNYX_API_KEY']}"}
    address = f"{os.environ['TELNYX_BASE_URL']}/recordings/{payload['recording_id']}"
    recording = http.get(address, headers=key, timeout=30).json()["data"]
    audio = http.get(recording["download_urls"]["wav"], timeout=60).content
    prefix = f"{os.environ['RUN']}/{recording['recording_started_at'][:10]}/{recording['id']}/"
    s3.put_object(Bucket="bucket", Key=prefix + "audio.wav", Body=audio)
    head = s3.head_object(Bucket="bucket", Key=prefix + "audio.wav")
    assert head["ContentLength"] == len(audio)
    recording["sha256"] = hashlib.sha256(audio).hexdigest()
    s3.put_object(Bucket="bucket", Key=prefix + "recording.json", Body=json.dumps(recording).encode())
