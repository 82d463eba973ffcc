# A server over HTTP for a team. `make package` first: the wheel comes from dist/. Then: docker build -t sync-mcp .
# Every command stands in the form without a shell, so that CI can run the same lines without a container.
FROM python:3.13-slim-trixie AS build
COPY .package/runtime.txt /build/
RUN ["python", "-m", "venv", "/opt/sync-mcp"]
# hadolint ignore=DL3059
RUN ["/opt/sync-mcp/bin/python", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "--require-hashes", "--requirement", "/build/runtime.txt"]
COPY dist/*.whl /build/
RUN ["/opt/sync-mcp/bin/python", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "--no-index", "--find-links", "/build", "sync-mcp"]

FROM python:3.13-slim-trixie
COPY --from=build /opt/sync-mcp /opt/sync-mcp
RUN ["useradd", "--uid", "10001", "--create-home", "--home-dir", "/data", "--shell", "/usr/sbin/nologin", "sync"]
ENV PATH=/opt/sync-mcp/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SYNC_MCP_HTTP=1 \
    SYNC_MCP_HTTP_HOST=0.0.0.0 \
    SYNC_MCP_HTTP_PORT=8000 \
    SYNC_MCP_HOME=/data/ledger \
    SYNC_MCP_MEDIA_ROOTS=/data/media \
    SYNC_MCP_DOWNLOAD_DIR=/data/media
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["sync-mcp"]
