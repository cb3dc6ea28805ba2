# The edge as an image: its static program, the certificate authorities of the public web, and an empty data folder.
#
#   deploy/docker/build edge                                              the program is built on this machine
#   docker build -f deploy/docker/edge.Dockerfile -t causeway-edge .      or in a container
#
# The stages stand in this order, and nothing needs BuildKit, because docker's first builder makes each stage up to the wanted one.

FROM scratch AS base
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="causeway-edge" \
      org.opencontainers.image.description="The public end of Causeway: ends TLS and routes names into tunnels" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENV PATH=/usr/local/bin
USER 65532:65532
# 80 answers and redirects plain HTTP; 443 is HTTPS by TCP, connectors and HTTP/3 by UDP.
EXPOSE 80/tcp 443/tcp 443/udp
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s CMD ["causeway-edge", "healthcheck"]
ENTRYPOINT ["causeway-edge"]
CMD ["run"]

# From programs made outside: the context is a folder as deploy/docker/build makes it. buildx gives the two arguments by itself.
FROM base AS prebuilt
ARG TARGETARCH
ARG TARGETVARIANT
COPY ca-certificates.crt /etc/ssl/certs/
COPY --chown=65532:65532 state/ /var/lib/
COPY ${TARGETARCH}${TARGETVARIANT}/causeway-edge /usr/local/bin/
VOLUME /var/lib/causeway-edge

FROM rust:1.95.0-slim-bookworm AS build
# The toolchain of this image, which is that of rust-toolchain.toml without its tools for editors.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates cmake make musl-tools
WORKDIR /src
COPY . .
RUN deploy/static /out causeway-edge
RUN install -d -m 0700 /state/causeway-edge

FROM base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /state/ /var/lib/
COPY --from=build /out/ /usr/local/bin/
VOLUME /var/lib/causeway-edge
