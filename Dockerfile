# The container image: the static binary, certificate authorities, nothing else. It needs no writable folder.
#
#   docker build -t only1mcp .                                        builds the binary first (about ten minutes)
#   docker build -t only1mcp --build-context binary=build/image .     takes it from there (`make image` puts it there)
#   docker build -t only1mcp:runtimes --target runtimes .             with node and python, for backends that are their
#                                                                     own child processes (`npx ...`, `uvx ...`)
#
# docs/install.md says how to run it.

FROM debian:bookworm-slim AS binary
WORKDIR /src
COPY binary/debian.txt binary/
# hadolint ignore=DL3008
RUN apt-get update \
    && xargs apt-get install -y --no-install-recommends < binary/debian.txt \
    && rm -rf /var/lib/apt/lists/*
COPY . .
RUN make binary BINARY=/only1mcp \
    && cp /etc/ssl/certs/ca-certificates.crt /ca-certificates.crt

FROM debian:bookworm-slim AS runtimes
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates nodejs npm python3 python3-venv pipx \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 65532 --create-home only1mcp
COPY --from=binary --chmod=755 /only1mcp /usr/local/bin/only1mcp
ENV ONLY1MCP_HOST=0.0.0.0
USER 65532:65532
WORKDIR /home/only1mcp
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/usr/local/bin/only1mcp", "status", "--timeout", "4"]
ENTRYPOINT ["/usr/local/bin/only1mcp"]
CMD ["start"]

FROM scratch AS image
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Only1MCP" \
      org.opencontainers.image.description="One MCP endpoint in front of any number of MCP servers" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=binary --chmod=644 /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=binary --chmod=755 /only1mcp /only1mcp
# The configuration is looked for in /etc/only1mcp/config.yaml. Inside, only every address can be reached from outside;
# a configuration without authentication is refused there.
ENV ONLY1MCP_HOST=0.0.0.0
USER 65532:65532
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/only1mcp", "status", "--timeout", "4"]
ENTRYPOINT ["/only1mcp"]
CMD ["start"]
