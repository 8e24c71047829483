# The service's image: for CPUs, or with DEVICE=gpu for NVIDIA GPUs. See docs/docker.md.
# Any Debian-like base with Python 3.11 and its venv module will do; a digest works, too.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG DEVICE=cpu
ARG MODEL=demo

FROM ${BASE_IMAGE} AS base
# A number, so that Kubernetes' runAsNonRoot can tell; 1000 is the first user of most hosts, which
# makes mounted folders writable. Code and environment belong to root: the service cannot change
# itself.
RUN useradd --uid 1000 --user-group --create-home prelabel \
    && install --directory --owner=1000 --group=1000 /models /data
# Ray makes its own token in HOME when the container starts; none is part of the image. The
# others for Ray are those of deploy/ray.env, which explains them.
ENV HOME=/home/prelabel \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
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

# PyTorch must see no GPU here, for this image cannot use one.
FROM base AS cpu
ENV CUDA_VISIBLE_DEVICES="" \
    NVIDIA_VISIBLE_DEVICES=void

# The compiler is Triton's: it compiles its way to the GPU's driver when a detector starts. It wants
# Python's headers, too, which Python's own images have.
FROM base AS gpu
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# Weighs most and changes least. One package comes as source; the locked setuptools builds it. With
# pip's build isolation, its build would fetch what no lock holds. For CPUs, what only GPUs need
# stays out, except for the small library by which PyTorch learns that there is none.
FROM gpu AS packages
ARG DEVICE
COPY requirements/build.txt requirements/serve.txt deploy/docker/standins.py /build/
RUN if [ "$DEVICE" = cpu ]; then \
        sed -i -E '/^nvidia-cuda-runtime==/!{/^(cuda-|nvidia-|triton==)/,/[^\\]$/d}' /build/serve.txt; \
    fi \
    && python3 -m venv /opt/venv \
    && for lock in build serve; do \
        pip install --no-cache-dir --require-hashes --no-deps \
            --use-pep517 --no-build-isolation -r /build/$lock.txt || exit 1; \
    done \
    && if [ "$DEVICE" = cpu ]; then \
        python /build/standins.py /opt/venv/lib/python3*/site-packages; \
    else \
        ls "$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"; \
    fi

# Editable, so that the models in /app/models are found beside the code. What the installation adds
# to the environment goes to a folder of its own: it makes a small layer.
FROM packages AS code
ARG MODEL
COPY requirements/serve.in requirements/
COPY pyproject.toml README.md LICENSE serve_app.py serve_config.yaml serve_config.production.yaml ./
COPY deployments deployments
COPY prelabel prelabel
COPY deploy/healthcheck.py deploy/ray.env deploy/
RUN pip install --no-cache-dir --no-deps --no-build-isolation --no-warn-script-location \
        --root /installed --editable . \
    && cp -a /installed/. / \
    && rm -rf build ./*.egg-info \
    && python -c 'import glob, sys; sys.exit(not glob.glob("prelabel/engines/kernels/_kernels*.so"))' \
    && python -m compileall -q --invalidation-mode checked-hash . \
    && if [ "$MODEL" = demo ]; then models=/models; else models=models; fi \
    && sed -e 's/host: 127\.0\.0\.1.*/host: 0.0.0.0/' \
        -e "s/model: demo .*/model: $MODEL/" \
        -e "s|^\( *\)args:$|&\n\1  models_dir: $models\n\1  prompts_file: /data/prompts.sqlite|" \
        serve_config.yaml > serve_config.docker.yaml

# With MODEL=... its weights become a part of the image, verified. The cache spares a second
# download when the code has changed.
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

# What is in the image, by name and version.
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
# `serve run` takes it as Ctrl-C: it answers the requests in flight before it leaves. `prelabel serve`
# does so at SIGTERM, too, and says in a sentence what keeps the service from starting.
STOPSIGNAL SIGINT
CMD ["prelabel", "serve", "serve_config.docker.yaml"]
ARG REVISION
LABEL org.opencontainers.image.title=prelabel \
    org.opencontainers.image.description="Label Studio's ML backend for Grounding DINO on Ray Serve" \
    org.opencontainers.image.version=0.1.0 \
    org.opencontainers.image.revision=$REVISION \
    org.opencontainers.image.licenses=Apache-2.0
