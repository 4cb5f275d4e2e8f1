"""Counts in a Redis hash, from threads; whoever reads the statistics sorts them.

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
    return {"path": path, "count": redis.hincrby(COUNTS, path, 1)}


@app.get("/stats/")
def stats() -> Response:
    rows = sorted(redis.hgetall(COUNTS).items(), key=lambda row: (-int(row[1]), row[0]))
    told = json.dumps([{"path": path.decode(), "count": int(counted)} for path, counted in rows])
    return Response(told, mimetype="application/json")
