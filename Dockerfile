# The service's image: for CPUs, or with DEVICE=gpu for NVIDIA GPUs. See docs/operator/docker.md.
# Any Debian-based image with Python 3.11 and its venv module; a digest works, too.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG DEVICE=cpu
ARG MODEL=demo

FROM ${BASE_IMAGE} AS base
# A numeric user, because Kubernetes cannot check runAsNonRoot against a name. 1000 is the first user
# of most hosts, so mounted folders are writable. Code and environment belong to root: the service
# cannot change itself.
RUN useradd --uid 1000 --user-group --create-home prelabel \
    && install --directory --owner=1000 --group=1000 /models /data /demo
# Ray writes a new token to HOME when the container starts; the image contains none. Ray's
# workers import `serve_app` from PYTHONPATH. The other variables are those of deploy/ray.env, which
# explains them.
ENV HOME=/home/prelabel \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_SERVE_ENABLE_HA_PROXY=1 \
    RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S=2 \
    RAY_SERVE_USE_GRPC_BY_DEFAULT=1 \
    RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP=0 \
    RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD=0 \
    RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH=1073741824 \
    RAY_worker_niceness=0 \
    RAY_SERVE_CONTROL_LOOP_INTERVAL_S=0.5 \
    RAY_SERVE_METRICS_EXPORT_INTERVAL_MS=1000 \
    no_grpc_proxy=0.0.0.0/0,::/0
WORKDIR /app

# PyTorch must not see a GPU, because this image lacks CUDA's libraries.
FROM base AS cpu
ENV CUDA_VISIBLE_DEVICES="" \
    NVIDIA_VISIBLE_DEVICES=void

# Triton compiles its interface to the GPU's driver with gcc when a detector starts. It also needs
# Python's headers, which the official Python images have.
FROM base AS gpu
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# The largest layer, and the one that changes least. One package has no wheel; the locked setuptools
# builds it, because pip's build isolation would download build requirements without hashes. The
# image for CPUs omits the packages of CUDA, except for the small runtime library through which
# PyTorch learns that there is no GPU.
# EXTRA=jobs adds Ray Data, for `prelabel annotate --input`.
FROM gpu AS packages
ARG DEVICE
ARG EXTRA=serve
COPY requirements/build.txt requirements/serve.txt requirements/jobs.txt deploy/docker/standins.py /build/
RUN if [ "$DEVICE" = cpu ]; then \
        sed -i -E '/^nvidia-cuda-runtime==/!{/^(cuda-|nvidia-|triton==)/,/[^\\]$/d}' /build/serve.txt /build/jobs.txt; \
    fi \
    && python3 -m venv /opt/venv \
    && for lock in build serve "$EXTRA"; do \
        pip install --no-cache-dir --require-hashes --no-deps \
            --use-pep517 --no-build-isolation -r /build/$lock.txt || exit 1; \
    done \
    && if [ "$DEVICE" = cpu ]; then \
        python /build/standins.py /opt/venv/lib/python3*/site-packages; \
    else \
        ls "$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"; \
    fi

# Editable: /app is a checkout, and relative paths of settings count from it. The files that the
# installation adds to the environment go to a folder of their own, which makes a small layer.
FROM packages AS code
ARG MODEL
COPY requirements/serve.in requirements/
COPY pyproject.toml README.md LICENSE serve_app.py serve_config.yaml serve_config.production.yaml ./
COPY deployments deployments
COPY jobs jobs
COPY prelabel prelabel
COPY deploy/healthcheck.py deploy/ray.env deploy/
COPY examples/demo examples/demo
RUN pip install --no-cache-dir --no-deps --no-build-isolation --no-warn-script-location \
        --root /installed --editable . \
    && cp -a /installed/. / \
    && rm -rf build ./*.egg-info \
    && python -c 'import glob, sys; sys.exit(not glob.glob("prelabel/engines/kernels/_kernels*.so"))' \
    && python -m compileall -q --invalidation-mode checked-hash . \
    && if [ "$MODEL" = demo ]; then models=/models; else models=models; fi \
    && sed -e 's/host: 127\.0\.0\.1.*/host: 0.0.0.0/' \
        -e "s/name: demo .*/name: $MODEL/" \
        -e "s|^\( *\)model:$|&\n\1  folder: $models|" \
        -e "s|^\( *\)args:$|&\n\1  prompts:\n\1    file: /data/prompts.sqlite|" \
        serve_config.yaml > serve_config.docker.yaml

# MODEL=... adds the weights of a model to the image, verified. The cache avoids a second download
# after a change of the code.
FROM code AS models
ARG MODEL
ARG HF_ENDPOINT
COPY prelabel/checkpoints/demo /baked/demo
RUN --mount=type=cache,target=/var/cache/prelabel \
    if [ "$MODEL" != demo ]; then \
        prelabel download "$MODEL" --models-dir /var/cache/prelabel \
        && cp -a "/var/cache/prelabel/$MODEL" /baked/; \
    fi

FROM ${DEVICE} AS runtime

# The image's bill of materials.
FROM packages AS sbom
COPY requirements/sbom.txt /build/
RUN python3 -m venv /opt/sbom \
    && /opt/sbom/bin/pip install --no-cache-dir --require-hashes --no-deps -r /build/sbom.txt \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --no-validate -o /build/python.cdx.json \
        /opt/venv/bin/python
COPY --from=runtime /var/lib/dpkg/status /usr/lib/os-release /build/
COPY deploy/docker/sbom.py prelabel/__init__.py /build/
RUN /opt/sbom/bin/python /build/sbom.py /build > /build/sbom.cdx.json

FROM runtime
COPY --from=packages /opt/venv /opt/venv
COPY --from=models /baked /app/models
COPY --from=code /installed /
COPY --from=code /app /app
COPY --from=sbom /build/sbom.cdx.json /usr/share/doc/prelabel/
USER 1000:1000
EXPOSE 9090
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s \
    CMD ["python", "deploy/healthcheck.py"]
# `serve run` answers the requests in flight after SIGINT only. `prelabel serve` does so after SIGTERM,
# too, and checks beforehand what would keep the service from starting.
STOPSIGNAL SIGINT
CMD ["prelabel", "serve", "serve_config.docker.yaml"]
ARG REVISION
LABEL org.opencontainers.image.title=prelabel \
    org.opencontainers.image.description="Label Studio's ML backend for Grounding DINO on Ray Serve" \
    org.opencontainers.image.version=0.1.0 \
    org.opencontainers.image.revision=$REVISION \
    org.opencontainers.image.licenses=Apache-2.0
