# One image for the code server, the daemon, the webservers, the runs and the commands. It holds no secret, and nothing in it runs as root.
#   docker build --tag REGISTRY/primero-ona:0.1.0 .
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE} AS build
WORKDIR /src
# The very files whose hashes were written down when they were pinned; no source packages, which would run code of their own.
COPY deploy/requirements.txt ./
RUN python3 -m venv /opt/primero-ona
RUN /opt/primero-ona/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: --no-deps --requirement requirements.txt
COPY setup.py pyproject.toml README.md MANIFEST.in ./
COPY primero_ona ./primero_ona
RUN /opt/primero-ona/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation . && /opt/primero-ona/bin/python -m pip check

FROM ${BASE}
COPY --from=build /opt/primero-ona /opt/primero-ona
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/primero-ona primero-ona
RUN install -d -m 0700 -o primero-ona -g primero-ona /var/lib/primero-ona
ENV PATH=/opt/primero-ona/bin:/usr/local/bin:/usr/bin:/bin DAGSTER_HOME=/var/lib/primero-ona DAGSTER_DISABLE_TELEMETRY=1 \
    DAGSTER_REDACT_USER_CODE_ERRORS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /var/lib/primero-ona
USER 10001:10001
CMD ["primero-ona", "--help"]
