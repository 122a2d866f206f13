"""The same route, then `SET NX` for the event and `arq.enqueue_job`, as arq's documents show it."""

import json
import os
from contextlib import asynccontextmanager

from arq import create_pool
from arq.connections import RedisSettings
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from bench.peers.verify import verify


async def receive(request):
    body = await request.body()
    verify(request, body)
    event = json.loads(body)["data"]
    redis = request.app.state.redis
    if await redis.set(f"event:{event['id']}", "1", nx=True, ex=86_400):
        await redis.enqueue_job("archive_recording", event["payload"], _job_id=event["payload"]["recording_id"])
    return Response()


@asynccontextmanager
async def lifespan(app):
    app.state.redis = await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"]))
    yield


app = Starlette(routes=[Route("/webhooks/telnyx", receive, methods=["POST"])], lifespan=lifespan)
