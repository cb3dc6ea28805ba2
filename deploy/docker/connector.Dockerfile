# The connector as an image: its static program, the certificate authorities of the public web, and an empty data
# folder, which only certificates that are ordered at home need.
#
#   deploy/docker/build connector                                         the program is built on this machine
#   docker build -f deploy/docker/connector.Dockerfile -t causeway-connector .   or in a container
#
# The stages stand in this order, and nothing needs BuildKit, because docker's first builder makes each stage up to the wanted one.

FROM scratch AS base
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="causeway-connector" \
      org.opencontainers.image.description="The home end of Causeway: dials out to edges and carries public requests to your services" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENV PATH=/usr/local/bin
USER 65532:65532
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s CMD ["causeway-connector", "healthcheck"]
ENTRYPOINT ["causeway-connector"]
CMD ["run", "--config", "/etc/causeway/config.yml"]

# From programs made outside: the context is a folder as deploy/docker/build makes it. buildx gives the two arguments by itself.
FROM base AS prebuilt
ARG TARGETARCH
ARG TARGETVARIANT
COPY ca-certificates.crt /etc/ssl/certs/
COPY --chown=65532:65532 state/ /var/lib/
COPY ${TARGETARCH}${TARGETVARIANT}/causeway-connector /usr/local/bin/

FROM rust:1.95.0-slim-bookworm AS build
# The toolchain of this image, which is that of rust-toolchain.toml without its tools for editors.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates cmake make musl-tools
WORKDIR /src
COPY . .
RUN deploy/static /out causeway-connector
RUN install -d -m 0700 /state/causeway-connector

FROM base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /state/ /var/lib/
COPY --from=build /out/ /usr/local/bin/
