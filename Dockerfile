# Build and run on the same Debian, because the binary is linked against its libc.
ARG DEBIAN=bookworm

FROM rust:1.95-slim-${DEBIAN} AS build
WORKDIR /source
COPY . .
# The binary is copied out in the same step: what lies in a cache mount is gone after it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    CARGO_TARGET_DIR=target cargo build --release --locked --package slated --bin slated \
    && cp target/release/slated /usr/bin/slated

FROM python:3.13-slim-${DEBIAN} AS onnxruntime
WORKDIR /source
COPY scripts/lib.sh scripts/onnxruntime.sh scripts/
RUN cp -r "$(dirname "$(scripts/onnxruntime.sh)")" /onnxruntime

FROM debian:${DEBIAN}-slim
# Numbers, because Kubernetes cannot tell whether a named user is root.
RUN groupadd --gid 65532 slated \
    && useradd --uid 65532 --gid 65532 --no-create-home --shell /usr/sbin/nologin slated \
    && install --directory --owner=65532 --group=65532 /models /journal
COPY --from=onnxruntime /onnxruntime /usr/lib/slated
COPY --from=build /usr/bin/slated /usr/bin/slated
# Journals in object stores are reached by TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /source/LICENSE /usr/share/doc/slated/LICENSE
COPY --from=build --chown=65532:65532 /source/models /models

ENV SLATED_SERVER__LISTEN=0.0.0.0:8080 \
    SLATED_MODELS__FOLDER=/models \
    SLATED_JOURNAL__FOLDER=/journal \
    SLATED_CATALOGUE__FOLDER=/journal/.catalogue \
    SLATED_LOG__FORMAT=json
USER 65532:65532
# Declared after the folders have their owner: later changes to a volume's folder are dropped.
VOLUME ["/models", "/journal"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["slated", "healthcheck"]
ENTRYPOINT ["slated"]
CMD ["serve"]
