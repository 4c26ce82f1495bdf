# Two images: `docker build .` runs models on the processor, `docker build --target cuda .` on NVIDIA's GPUs as well.

# Build and run on the same Debian, because the binary is linked against its libc.
ARG DEBIAN=bookworm
# ONNX Runtime's GPU build asks for CUDA 13 and cuDNN 9. Its libc is newer than Debian's, so the binary runs there too.
ARG CUDA=13.0.1-cudnn-runtime-ubuntu24.04

FROM rust:1.95-slim-${DEBIAN} AS source
WORKDIR /source
COPY . .
# Symbols double the binary's size, and the image carries no debugger.
ENV CARGO_TARGET_DIR=target CARGO_PROFILE_RELEASE_STRIP=symbols

FROM source AS build
# The binary is copied out in the same step: what lies in a cache mount is gone after it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target,id=slated-target \
    cargo build --release --locked --package slated --bin slated \
    && cp target/release/slated /usr/bin/slated

FROM source AS build-cuda
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target,id=slated-target-cuda \
    cargo build --release --locked --package slated --bin slated --features cuda \
    && cp target/release/slated /usr/bin/slated

FROM python:3.13-slim-${DEBIAN} AS onnxruntime
WORKDIR /source
COPY scripts/lib.sh scripts/onnxruntime.sh scripts/
RUN cp -r "$(dirname "$(scripts/onnxruntime.sh)")" /onnxruntime

FROM python:3.13-slim-${DEBIAN} AS onnxruntime-cuda
WORKDIR /source
COPY scripts/lib.sh scripts/onnxruntime.sh scripts/
RUN cp -r "$(dirname "$(scripts/onnxruntime.sh --cuda)")" /onnxruntime

# What both images hold besides the binary and the library.
FROM source AS files
RUN mkdir /journal && cp -r models /models

FROM nvidia/cuda:${CUDA} AS cuda
COPY --from=onnxruntime-cuda /onnxruntime /usr/lib/slated
COPY --from=build-cuda /usr/bin/slated /usr/bin/slated
# Journals in object stores are reached by TLS.
COPY --from=files /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=files /source/LICENSE /usr/share/doc/slated/LICENSE
COPY --from=files --chown=65532:65532 /models /models
COPY --from=files --chown=65532:65532 /journal /journal
# `auto` says in the log, in /policies and in a metric what it took; `cuda` refuses to start without a GPU.
ENV SLATED_SERVER__LISTEN=0.0.0.0:8080 \
    SLATED_MODELS__FOLDER=/models \
    SLATED_JOURNAL__FOLDER=/journal \
    SLATED_CATALOGUE__FOLDER=/journal/.catalogue \
    SLATED_RUNTIME__DEVICE=auto \
    SLATED_LOG__FORMAT=json
# Numbers, because Kubernetes cannot tell whether a named user is root.
USER 65532:65532
# Declared after the folders have their owner: later changes to a volume's folder are dropped.
VOLUME ["/models", "/journal"]
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["slated", "healthcheck"]
ENTRYPOINT ["slated"]
CMD ["serve"]

# The last one, so that it is the one which is built where none is named.
FROM debian:${DEBIAN}-slim AS cpu
COPY --from=onnxruntime /onnxruntime /usr/lib/slated
COPY --from=build /usr/bin/slated /usr/bin/slated
COPY --from=files /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=files /source/LICENSE /usr/share/doc/slated/LICENSE
COPY --from=files --chown=65532:65532 /models /models
COPY --from=files --chown=65532:65532 /journal /journal
ENV SLATED_SERVER__LISTEN=0.0.0.0:8080 \
    SLATED_MODELS__FOLDER=/models \
    SLATED_JOURNAL__FOLDER=/journal \
    SLATED_CATALOGUE__FOLDER=/journal/.catalogue \
    SLATED_LOG__FORMAT=json
USER 65532:65532
VOLUME ["/models", "/journal"]
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["slated", "healthcheck"]
ENTRYPOINT ["slated"]
CMD ["serve"]
