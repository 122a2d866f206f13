# One image for every command. Dependencies and build tools are locked; the service runs as an unprivileged user.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/callvault \
 && /opt/callvault/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock
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
# A fixed date makes the wheel reproducible: the same sources give the same bytes.
RUN SOURCE_DATE_EPOCH=1767225600 /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && /opt/callvault/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/callvault --create-home callvault
COPY --from=build /opt/callvault /opt/callvault
ENV PATH=/opt/callvault/bin:$PATH CALLVAULT_DATA=/var/lib/callvault PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /var/lib/callvault
VOLUME /var/lib/callvault
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=10s --start-period=20s CMD ["callvault", "healthy"]
ENTRYPOINT ["callvault"]
CMD ["serve", "--host", "0.0.0.0"]
