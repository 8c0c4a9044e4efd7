FROM python:3.13-slim AS build

WORKDIR /src
# Wheels alone, and each with one of the hashes that the lock has for it.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_ONLY_BINARY=:all:
COPY requirements requirements
RUN python -m venv --without-pip /opt/r2-exporter \
 && pip --python /opt/r2-exporter/bin/python install --require-hashes --requirement requirements/image.txt \
 && pip install --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && pip --python /opt/r2-exporter/bin/python install --no-index --no-deps /wheels/*.whl
# botocore describes some 440 services; a probe uses S3, and STS, SSO or a sign-in may give its credentials.
RUN find /opt/r2-exporter/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
    ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} +


FROM python:3.13-slim

LABEL org.opencontainers.image.title="r2-exporter" \
      org.opencontainers.image.description="Prometheus exporter that probes Cloudflare R2 and any S3-compatible storage" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"

COPY --from=build /opt/r2-exporter /opt/r2-exporter
# Where scanners look for what an image says it holds.
COPY requirements/image.cdx.json /usr/share/sbom/r2-exporter.cdx.json

# What runs needs nothing to install with.
RUN pip uninstall --yes --root-user-action=ignore pip \
  && rm -r /usr/local/lib/python3*/ensurepip
# Nothing is written to the root, so that it can be read-only: the history is a volume's.
RUN install --directory --owner=65532 --group=65532 /data
VOLUME /data
ENV PATH=/opt/r2-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 9977
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["r2-exporter", "healthcheck"]
ENTRYPOINT ["r2-exporter"]
CMD ["serve", "--config.file=/etc/r2-exporter/exporter.yaml", "--storage.path=/data/r2-exporter.db"]
