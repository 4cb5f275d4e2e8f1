"""Counts in a Redis sorted set, from one event loop in each worker: the count and the place among all, in one pipeline.

Redis listens on the Unix socket that REDIS_SOCKET names.
"""

import os

from quart import Quart, request
from redis.asyncio import BlockingConnectionPool, Redis, UnixDomainSocketConnection

COUNTS = "counts"

app = Quart(__name__)
# Requests beyond these wait for a connection; the default refuses them.
redis = Redis(
    connection_pool=BlockingConnectionPool(
        max_connections=64, timeout=None, connection_class=UnixDomainSocketConnection, path=os.environ["REDIS_SOCKET"]
    )
)


@app.get("/api/<path:_>")
async def count(_: str) -> dict[str, object]:
    path = request.path
    async with redis.pipeline(transaction=False) as pipeline:
        counted, rank = await pipeline.zincrby(COUNTS, 1, path).zrevrank(COUNTS, path).execute()
    return {"path": path, "count": int(counted), "rank": rank}


@app.get("/stats/")
async def stats() -> list[dict[str, object]]:
    rows = await redis.zrevrange(COUNTS, 0, -1, withscores=True)
    return [{"path": path.decode(), "count": int(counted)} for path, counted in rows]
