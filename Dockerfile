# syntax=docker/dockerfile:1

# By digest, so that a build can be repeated; Dependabot raises it.
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS base

FROM base AS build
WORKDIR /src

# Dependencies first: they change less often than the code.
COPY requirements.txt requirements-build.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --only-binary :all: --requirement requirements-build.txt \
 && python -m venv --without-pip /opt/nextmv-exporter \
 && python -m pip --python /opt/nextmv-exporter install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --only-binary :all: --no-compile --requirement requirements.txt

COPY hatch_build.py pyproject.toml README.md LICENSE ./
COPY exporter ./exporter
RUN python -m pip wheel --no-cache-dir --disable-pip-version-check \
        --no-build-isolation --no-index --no-deps --wheel-dir /wheels . \
 && python -m pip --python /opt/nextmv-exporter install --no-cache-dir --disable-pip-version-check \
        --no-index --no-deps --no-compile /wheels/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/nextmv-exporter/lib

FROM base

# The standard library comes without bytecode, and a read-only root could never keep any.
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip \
 && rm -rf /usr/local/lib/python3.*/ensurepip \
 && python -m compileall -q --invalidation-mode unchecked-hash \
        -x '/(idlelib|lib2to3|test|tests|turtledemo)/' /usr/local/lib/python3.*/ \
 && useradd --uid 65532 --user-group --no-create-home --shell /usr/sbin/nologin nextmv

COPY --from=build /opt/nextmv-exporter /opt/nextmv-exporter

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nextmv-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the run queue of Nextmv Cloud accounts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

ENV PATH="/opt/nextmv-exporter/bin:${PATH}" \
    HOME="/home/nextmv" \
    PYTHONDONTWRITEBYTECODE="1" \
    PYTHONUNBUFFERED="1" \
    MALLOC_ARENA_MAX="1" \
    MALLOC_MMAP_THRESHOLD_="131072" \
    NEXTMV_EXPORTER_REVISION="${REVISION}"

USER 65532:65532
EXPOSE 10057

# Through no proxy. An exporter that listens elsewhere or serves TLS needs a check of its own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:10057/-/healthy', timeout=4)"]

ENTRYPOINT ["nextmv-exporter"]
