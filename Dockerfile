# CUDA by default; for machines without a GPU: docker build --build-arg TORCH_BACKEND=cpu .
# There is no CUDA base image because torch's wheels bring the CUDA libraries along, and CTranslate2
# takes cuBLAS from there: the service imports torch first, and an open library is found by its name.
# trixie is Debian's stable release; its Python, 3.13, is the newest that the dependencies support.

FROM debian:trixie-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*


FROM base AS dependencies
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --disable-pip-version-check 'uv==0.13.9'
# The service's user cannot write here: without compiled bytecode every start would compile anew.
ENV PATH=/opt/uv/bin:$PATH \
    VIRTUAL_ENV=/opt/venv \
    UV_CACHE_DIR=/var/cache/uv \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
RUN uv venv --python /usr/bin/python3 /opt/venv
WORKDIR /src
# For Ray: --build-arg LOCK=requirements-ray.lock (docs/kubernetes.md)
ARG LOCK=requirements.lock
COPY pyproject.toml requirements.lock requirements-ray.lock ./
# The lock's hashes are those of the CUDA wheels.
ARG TORCH_BACKEND=""
RUN --mount=type=cache,target=/var/cache/uv \
    if [ -z "$TORCH_BACKEND" ]; then \
        uv pip install --require-hashes -r "$LOCK"; \
    else \
        uv pip install --torch-backend "$TORCH_BACKEND" --no-verify-hashes \
            -c "$LOCK" -r pyproject.toml --extra postgresql --extra s3 --extra urls \
            --extra wyoming $(case "$LOCK" in *ray*) echo --extra ray;; esac); \
    fi


FROM dependencies AS application
COPY README.md LICENSE ./
COPY app app
# Beside the environment, not in it: a change of the code then leaves the layer of gigabytes alone.
RUN --mount=type=cache,target=/var/cache/uv \
    uv pip install --no-deps --target /opt/app .


FROM base
LABEL org.opencontainers.image.title="whisperx-asr-service" \
      org.opencontainers.image.description="Aligned, diarized transcripts in the answer to POST /asr" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 1000 asr \
    && useradd --uid 1000 --gid asr --create-home asr \
    && install -d -o asr -g asr /cache \
    && install -d -o asr -g asr -m 0700 /data
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=application /opt/app /opt/app
ENV PATH=/opt/app/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/app \
    PYTHONUNBUFFERED=1 \
    CACHE_DIR=/cache \
    DATA_DIR=/data \
    TEMP_DIR=/tmp/whisperx-asr \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /home/asr
VOLUME /cache /data
EXPOSE 9000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 \
    CMD ["whisperx-asr", "health"]
CMD ["whisperx-asr", "serve"]
