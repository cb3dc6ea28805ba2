# The allocator and the speaker as one image: their static programs and the certificate authorities of the public web. Kubernetes
# names the one to run (`command:`) and probes by the programs' ports: so there is no entry point, and no HEALTHCHECK, which would
# have to name one of the two.
#
#   deploy/docker/build l2                                                the programs are built on this machine
#   docker build -f deploy/docker/l2.Dockerfile -t causeway-l2 .          or in a container
#
# The stages stand in this order, and nothing needs BuildKit, because docker's first builder makes each stage up to the wanted one.

FROM scratch AS base
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="causeway-l2" \
      org.opencontainers.image.description="Causeway in the cluster: gives Services of type LoadBalancer their addresses and announces them" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENV PATH=/usr/local/bin
USER 65532:65532

# From programs made outside: the context is a folder as deploy/docker/build makes it. buildx gives the two arguments by itself.
FROM base AS prebuilt
ARG TARGETARCH
ARG TARGETVARIANT
COPY ca-certificates.crt /etc/ssl/certs/
COPY ${TARGETARCH}${TARGETVARIANT}/causeway-allocator ${TARGETARCH}${TARGETVARIANT}/causeway-speaker /usr/local/bin/

FROM rust:1.95.0-slim-bookworm AS build
# The toolchain of this image, which is that of rust-toolchain.toml without its tools for editors.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates cmake make musl-tools
WORKDIR /src
COPY . .
RUN deploy/static /out causeway-allocator causeway-speaker

FROM base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /usr/local/bin/
