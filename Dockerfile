# The service's image, for CPUs and NVIDIA GPUs alike. See docs/docker.md.
# Any Debian-like base with Python 3.11 and its venv module will do.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

# A number, so that Kubernetes' runAsNonRoot can tell; 1000 is the first user of most hosts, which
# makes mounted folders writable. Code and environment belong to root: the service cannot change
# itself.
RUN useradd --uid 1000 --user-group --create-home prelabel \
    && install --directory --owner=1000 --group=1000 /models /data
WORKDIR /app

# Weighs most and changes least, so it comes before the code. One package comes as source; the
# locked setuptools builds it. With pip's build isolation, its build would fetch what no lock holds.
COPY requirements requirements
RUN python3 -m venv /opt/venv \
    && for lock in build serve; do \
        /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps \
            --use-pep517 --no-build-isolation -r requirements/$lock.txt || exit 1; \
    done

# Editable, so that the models in /app/models are found beside the code. The compiler, for the
# detector's kernel, comes and goes in one layer.
COPY . .
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends gcc libc6-dev \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && apt-get purge -y -qq --auto-remove gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* build \
    && python3 -c 'import glob, sys; sys.exit(not glob.glob("prelabel/engines/_kernels*.so"))' \
    && sed -e 's/host: 127\.0\.0\.1.*/host: 0.0.0.0/' -e 's|^\( *\)args:$|&\n\1  models_dir: /models\n\1  prompts_file: /data/prompts.sqlite|' \
        serve_config.yaml > serve_config.docker.yaml

# Ray makes its own token in HOME when the container starts; none is part of the image.
ENV HOME=/home/prelabel \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0
USER 1000:1000

EXPOSE 9090
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s \
    CMD ["python", "deploy/healthcheck.py"]
# What `serve run` takes as Ctrl-C: it answers the requests in flight before it leaves.
STOPSIGNAL SIGINT
CMD ["serve", "run", "serve_config.docker.yaml"]
