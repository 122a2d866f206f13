# One image for every command. Dependencies and build tools are locked; the service runs as an unprivileged user.
# `docker build .` leaves out what few need; `docker build --target full .` has every extra (docs/deployment.md).

# Everything is installed by the pip of a second environment, so neither pip nor setuptools is in the image. Bytecode
# is compiled: the root is read-only, so each start would compile again. It names no time, so builds can be compared.
FROM python:3.11-slim-bookworm AS everything
WORKDIR /build
# A fixed date makes the wheel reproducible: the same sources give the same bytes.
ENV SOURCE_DATE_EPOCH=1767225600 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/build \
 && python3 -m venv --without-pip /opt/callvault \
 && /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
 && /opt/build/bin/pip --python /opt/callvault/bin/python install --require-hashes -r requirements.lock \
 && find /opt/callvault -type d \( -name tests -o -name test \) -prune -exec rm -r {} +
COPY pyproject.toml README.md LICENSE ./
COPY text text
COPY config config
COPY process process
COPY telnyx_api telnyx_api
COPY archive archive
COPY workers workers
COPY service service
COPY cli cli
COPY sandbox sandbox
COPY docs/callvault.1 docs/callvault.1
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && /opt/build/bin/pip --python /opt/callvault/bin/python install --no-deps /dist/*.whl \
 && /opt/callvault/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/callvault/lib \
 && find /opt/callvault -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# Without pyarrow, for Parquet rows, and without botocore's models of services that no store uses.
FROM everything AS usual
RUN /opt/build/bin/pip --python /opt/callvault/bin/python uninstall --yes --quiet pyarrow \
 && find /opt/callvault/lib/python3.*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
    ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} + \
 && find /opt/callvault -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

FROM python:3.11-slim-bookworm AS base
RUN useradd --system --uid 10001 --home-dir /var/lib/callvault --create-home callvault
ENV PATH=/opt/callvault/bin:$PATH CALLVAULT_DATA=/var/lib/callvault PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /var/lib/callvault
VOLUME /var/lib/callvault
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=20s CMD ["callvault", "healthy", "--container"]
ENTRYPOINT ["callvault"]
CMD ["serve", "--host", "0.0.0.0"]
LABEL org.opencontainers.image.title="Callvault" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.description="Keeps a company's Telnyx call recordings in its own bucket, and proves it." \
      org.opencontainers.image.licenses="Apache-2.0"

FROM base AS full
COPY --from=everything /opt/callvault /opt/callvault

FROM base
COPY --from=usual /opt/callvault /opt/callvault
