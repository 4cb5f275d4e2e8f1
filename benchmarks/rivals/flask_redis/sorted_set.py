"""Counts in a Redis sorted set, from threads: the count and the place among all, in one pipeline.

Redis listens on the Unix socket that REDIS_SOCKET names.
"""

import os

from flask import Flask, Response, json, request
from redis import BlockingConnectionPool, Redis, UnixDomainSocketConnection

COUNTS = "counts"

app = Flask(__name__)
redis = Redis(
    connection_pool=BlockingConnectionPool(
        max_connections=64, timeout=None, connection_class=UnixDomainSocketConnection, path=os.environ["REDIS_SOCKET"]
    )
)


@app.get("/api/<path:_>")
def count(_: str) -> dict[str, object]:
    path = request.path
    with redis.pipeline(transaction=False) as pipeline:
        counted, rank = pipeline.zincrby(COUNTS, 1, path).zrevrank(COUNTS, path).execute()
    return {"path": path, "count": int(counted), "rank": rank}


@app.get("/stats/")
def stats() -> Response:
    rows = redis.zrevrange(COUNTS, 0, -1, withscores=True)
    told = json.dumps([{"path": path.decode(), "count": int(counted)} for path, counted in rows])
    return Response(told, mimetype="application/json")
