# Images from one file: `api` (API, dispatcher, migrations; no torch) and `worker` (torch).
# Libraries and code are layers of their own: a release that changes only code is a small download.
# A base by digest: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS base
SHELL ["/bin/sh", "-eux", "-c"]
ENV PATH=/opt/convsweep/bin:/opt/libraries/bin:$PATH \
    PYTHONPATH=/opt/convsweep \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    CONVSWEEP_DATA_DIR=/var/lib/convsweep \
    CONVSWEEP_LOG_FORMAT=json
RUN groupadd --gid 10001 convsweep; \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin convsweep; \
    install --directory --owner=10001 --group=10001 /var/lib/convsweep; \
    install --directory --owner=10001 --group=10001 --mode=700 /run/convsweep

# pip stays outside of the environment that it fills, so that the images have none in it.
# Every package is checked against its hash in deploy/requirements (written by `make lock`).
FROM base AS build
WORKDIR /src
ENV PIP_PYTHON=/opt/libraries/bin/python PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/libraries

FROM build AS code
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=deploy/requirements,target=requirements \
    pip install --require-hashes --only-binary=:all: -r requirements/build.txt
COPY . .
RUN pip install --no-cache-dir --no-deps --no-index --no-build-isolation --target /opt/convsweep ./client .

FROM build AS api-libraries
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=deploy/requirements,target=requirements \
    pip install --require-hashes --only-binary=:all: --no-compile -r requirements/api.txt
COPY deploy/slim-environment /usr/local/bin/
# hadolint ignore=DL3008
RUN apt-get update; \
    apt-get install --yes --no-install-recommends binutils; \
    rm -rf /var/lib/apt/lists/*; \
    slim-environment /opt/libraries

FROM build AS worker-libraries
# Default: PyPI's build for CUDA. https://download.pytorch.org/whl/cpu: a tenth of its size, no GPU.
# The builds of another index have hashes of their own, which are not listed: there only the version
# is fixed. All other packages come from PyPI.
ARG TORCH_INDEX_URL=
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=constraints.txt,target=constraints.txt \
    --mount=type=bind,source=deploy/requirements,target=requirements \
    if [ -n "$TORCH_INDEX_URL" ]; then \
        pip install --no-deps --index-url "$TORCH_INDEX_URL" -c constraints.txt torch torchvision; \
    else \
        pip install --no-deps --require-hashes --only-binary=:all: -r requirements/torch.txt; \
    fi
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=deploy/requirements,target=requirements \
    pip install --require-hashes --only-binary=:all: -r requirements/worker.txt; \
    pip check

FROM base AS api
COPY --from=api-libraries /opt/libraries /opt/libraries
COPY --from=code /opt/convsweep /opt/convsweep
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="convsweep api" \
      org.opencontainers.image.description="API, dispatcher and migrations of convsweep" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
EXPOSE 8000
ENV CONVSWEEP_API_HOST=0.0.0.0
HEALTHCHECK --interval=10s --timeout=10s --start-period=180s --start-interval=2s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=8)"]
ENTRYPOINT ["convsweep"]
CMD ["api"]

FROM base AS worker
COPY --from=worker-libraries /opt/libraries /opt/libraries
COPY --from=code /opt/convsweep /opt/convsweep
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="convsweep worker" \
      org.opencontainers.image.description="Evaluates architectures for convsweep on a GPU" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
EXPOSE 9100
ENV CONVSWEEP_ALIVE_FILE=/tmp/alive \
    CONVSWEEP_METRICS_HOST=0.0.0.0 \
    CONVSWEEP_METRICS_PORT=9100
# the file is touched with every heartbeat, also while the worker waits for a GPU
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s --start-interval=2s --retries=3 \
    CMD ["sh", "-c", "test -n \"$(find \"$CONVSWEEP_ALIVE_FILE\" -newermt '-60 seconds')\""]
ENTRYPOINT ["convsweep"]
CMD ["worker"]
