"""The whole job as a user would start today: Flask, the SDK's signature check, requests, boto3, one thread."""

import json
import os

import boto3
import requests
import telnyx
from flask import Flask, request

app = Flask(__name__)
client = telnyx.Telnyx(api_key=os.environ["TELNYX_API_KEY"], public_key=os.environ["TELNYX_PUBLIC_KEY"])
s3 = boto3.client("s3")


@app.post("/webhooks/telnyx")
def receive():
    body = request.get_data(as_text=True)
    client.webhooks.unwrap(body, headers=dict(request.headers))
    payload = json.loads(body)["data"]["payload"]
    key = {"Authorization": f"Bearer {os.environ['TELNYX_API_KEY']}"}
    address = f"{os.environ['TELNYX_BASE_URL']}/recordings/{payload['recording_id']}"
    recording = requests.get(address, headers=key, timeout=30).json()["data"]
    audio = requests.get(recording["download_urls"]["wav"], timeout=60).content
    s3.put_object(Bucket="bucket", Key=f"{os.environ['RUN']}/{recording['id']}.wav", Body=audio)
    return {}


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ["PORT"]), threaded=False)
