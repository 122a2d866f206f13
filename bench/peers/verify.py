"""A Starlette route that only reads and verifies the body: the fastest receiver that knows the sender."""

import base64
import os

import nacl.bindings
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

KEY = base64.b64decode(os.environ["TELNYX_PUBLIC_KEY"])


def verify(request, body):
    signature = base64.b64decode(request.headers["telnyx-signature-ed25519"])
    message = request.headers["telnyx-timestamp"].encode() + b"|" + body
    nacl.bindings.crypto_sign_open(signature + message, KEY)


async def receive(request):
    verify(request, await request.body())
    return Response()


app = Starlette(routes=[Route("/webhooks/telnyx", receive, methods=["POST"])])
