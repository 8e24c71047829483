# `make help` lists the targets. Each target installs its requirements when their lock file has changed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
CONFIG ?= serve_config.yaml
PRODUCTION ?= serve_config.production.yaml
CLUSTER ?= cluster.yaml
RECIPE ?= full
MINUTES ?= 30
PORT ?= 9090
LABEL_STUDIO_PORT ?= 8080
EMPTY_DATABASE := .venv-labelstudio/empty/label_studio.sqlite3
BIN := .venv/bin
# Python compiles a module when it first imports it; compiling all of them takes half a minute.
PIP_FLAGS := --disable-pip-version-check --require-hashes --no-deps --no-compile
# Without an NVIDIA GPU, the service is installed without CUDA's libraries, which are two thirds of
# its size. `make DEVICE=gpu ...` installs them, and the choice lasts; the tests need them, too. The
# stand-ins for them need gcc.
DEVICE ?= $(if $(wildcard /dev/nvidiactl /dev/dxg),gpu,$(or $(basename $(notdir $(wildcard .venv/*.device))),$(shell \
    [ "$$(uname -m)" = x86_64 ] && command -v gcc nm ldd | grep -c . | grep -qx 3 && echo cpu || echo gpu)))
SIZE = $(if $(filter cpu,$(DEVICE)),2 GB without CUDA,about 6 GB)
include deploy/ray.env
export $(shell sed -n 's/^\([A-Za-z_]*\)=.*/\1/p' deploy/ray.env)
export PYTHONUNBUFFERED := 1

.PHONY: help serve demo demo-clean jobs test lint e2e test-cluster test-fresh soak nightly train-demo measure-demo train-segmenter measure-segmenter bench bench-gpu lock format docs docs-site docs-pictures image-test clean \
    cluster-up cluster-tunnel cluster-deploy cluster-down

help:  ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 20

serve: .venv/serve.stamp  ## Run the service on port 9090 (CONFIG=other.yaml: another config)
	exec $(BIN)/prelabel serve $(CONFIG)

demo:  ## Start the service and a Label Studio with demo projects (PORT=9091, LABEL_STUDIO_PORT=8081: other ports)
	@$(MAKE) --no-print-directory -j2 .venv/serve.stamp $(EMPTY_DATABASE)
	exec $(BIN)/prelabel demo --start --port $(PORT) --label-studio-port $(LABEL_STUDIO_PORT) $(ARGS)

demo-clean:  ## Remove the demo's folder .demo: its account, its projects and their annotations
	rm -rf .demo

jobs: .venv/jobs.stamp  ## Install Ray Data and Parquet for `prelabel annotate --input`

test: .venv/test.stamp .venv-reference/stamp .venv-sbom/stamp  ## Run the unit and service tests (local Ray, embedded model)
ifdef ARGS
	$(BIN)/pytest $(ARGS)
else
# Most unit tests use one core. The others share a Ray or a training run, and use all cores.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal tests/unit tests/repo
	$(BIN)/pytest tests/training tests/serve
endif

lint: .venv/test.stamp  ## Run ruff, mypy --strict and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/test.stamp  ## Format the code and apply ruff's fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e: .venv/test.stamp $(EMPTY_DATABASE)  ## Run the end-to-end tests with Label Studio and a browser
	@command -v chromium >/dev/null || { echo "The browser tests need Chromium: apt-get install chromium"; exit 1; }
	$(BIN)/pytest tests/e2e -v -o log_cli=true -o log_cli_level=INFO $(ARGS)

test-cluster: .venv/test.stamp  ## Run the cluster tests on several local Ray nodes: scaling, faults, rollouts, head
	@command -v redis-server >/dev/null || { echo "A test of the head needs Redis: apt-get install redis-server"; exit 1; }
	$(BIN)/pytest tests/cluster -v -o log_cli=true -o log_cli_level=INFO $(ARGS)

test-fresh: .venv/test.stamp  ## Clone this checkout into an empty folder and run `make demo` there until a browser has boxes
	@command -v chromium >/dev/null || { echo "The browser tests need Chromium: apt-get install chromium"; exit 1; }
	$(BIN)/pytest tests/fresh -v -o log_cli=true -o log_cli_level=INFO $(ARGS)

soak: .venv/test.stamp  ## Run a steady mixed load to find leaks and slowdowns (MINUTES=2: a short run)
	$(BIN)/python -m tests.support.soak --minutes $(MINUTES)

nightly:  ## Run test-cluster, test-fresh, image-test and soak (one hour; needs the machine for itself)
	$(MAKE) test-cluster
	$(MAKE) test-fresh
	$(MAKE) image-test
	$(MAKE) soak

# glibc keeps freed memory in huge pages, which makes a training step a tenth faster.
train-demo train-segmenter: export GLIBC_TUNABLES := glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456
train-demo: .venv/train.stamp  ## Train the demo model from scratch, or resume training (RECIPE=tiny: a short run)
	$(BIN)/python -m training.train --recipe $(RECIPE) $(ARGS)

measure-demo: .venv/train.stamp  ## Evaluate the demo model on held-out scenes (ARGS=--engines: compare the engines)
	$(BIN)/python -m training.evaluate $(ARGS)

train-segmenter: .venv/train.stamp  ## Train the demo segmenter from scratch, or resume training (RECIPE=tiny: a short run)
	$(BIN)/python -m training.segmentation.train --recipe $(RECIPE) $(ARGS)

measure-segmenter: .venv/train.stamp  ## Evaluate the demo segmenter on held-out scenes (ARGS=--end-to-end: from phrases to masks)
	$(BIN)/python -m training.segmentation.evaluate $(ARGS)

bench: .venv/bench.stamp  ## Run the benchmarks (20 minutes; ARGS="--parts engine": one part)
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-gpu: .venv/bench.stamp  ## Measure a detector on this machine's GPU (8 minutes; ARGS="--parts engine": one part)
	$(BIN)/python -m benchmarks.gpu $(ARGS)

cluster-up: .venv/cluster.stamp $(HOME)/.ray/auth_token  ## Start or repair the Ray cluster of cluster.yaml (CLUSTER=deploy/cluster.gcp.yaml: Google Cloud)
	RAY_AUTH_MODE=token $(BIN)/ray up --yes $(CLUSTER)

cluster-tunnel: .venv/cluster.stamp  ## Open a tunnel to the cluster's dashboard at localhost:8265; leave it running
	RAY_AUTH_MODE=token $(BIN)/ray dashboard $(CLUSTER)

cluster-deploy: .venv/cluster.stamp  ## Deploy serve_config.production.yaml through the tunnel; repeat for every change
	@mkdir -p artifacts
	$(BIN)/python deploy/release.py $(PRODUCTION) > artifacts/released.yaml
	RAY_AUTH_MODE=token $(BIN)/serve deploy artifacts/released.yaml

cluster-down: .venv/cluster.stamp  ## End the cluster with all its nodes
	RAY_AUTH_MODE=token $(BIN)/ray down --yes $(CLUSTER)

$(HOME)/.ray/auth_token: | .venv/serve.stamp
	RAY_AUTH_MODE=token $(BIN)/ray get-auth-token --generate > /dev/null

docs: .venv/test.stamp  ## Generate the parts of the pages in docs/ that come from code and results
	$(BIN)/python -m docs.generators.pages

docs-site: .venv/test.stamp .venv-docs/stamp  ## Build the documentation as a site into site/ (open site/index.html)
	$(BIN)/python -m docs.generators.site_parts artifacts/docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

docs-pictures: .venv/test.stamp $(EMPTY_DATABASE)  ## Take the screenshots of docs/ again (4 minutes; needs Chromium)
	$(BIN)/python -m docs.generators.thresholds_figure
	$(BIN)/python -m docs.generators.gallery $(ARGS)

image-test:  ## Build the container image with buildah and test it (DEVICE=gpu, EXTRA=jobs: other images)
	deploy/image_test.sh

lock:  ## Resolve the requirements again (needs uv)
	@command -v uv >/dev/null || { echo "Locking needs uv: pip install uv"; exit 1; }
	cd requirements && for name in build serve train bench cluster jobs test labelstudio reference sbom docs; do \
	    uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes \
	        --no-emit-index-url --no-header --override overrides.in $$name.in -o $$name.txt; \
	done

clean:  ## Remove the virtual environments and all build products
	rm -rf .venv .venv-* artifacts build site *.egg-info .*_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 12) else "prelabel needs Python 3.11 or 3.12, but this is " + sys.version.split()[0] + ". Install one, or name it: make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/%.device: | .venv/bin/python
	@rm -f .venv/*.device
	@touch $@

# PyTorch loads only if all libraries are there to which it is linked: docs/operator/docker.md.
remove_standins = find .venv/lib -path '*/torch/lib/*' \( -lname libcuda-standin.so -o -name libcuda-standin.so \) -delete
make_standins = $(BIN)/python deploy/docker/standins.py "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
without_cuda = sed -E '/^nvidia-cuda-runtime==/!{/^(cuda-|nvidia-|triton==)/,/[^\\]$$/d}'
lock = $(if $(filter cpu,$(DEVICE)),<($(without_cuda) requirements/$(1).txt),requirements/$(1).txt)

.venv/serve.stamp: requirements/build.txt requirements/serve.txt pyproject.toml .venv/$(DEVICE).device | .venv/bin/python
	@echo "Installing the service into .venv (once): $(SIZE), some minutes."
	$(BIN)/pip install $(PIP_FLAGS) -r requirements/build.txt
	$(BIN)/pip install $(PIP_FLAGS) --no-build-isolation --use-pep517 -r $(call lock,serve)
	@$(remove_standins)
	$(if $(filter cpu,$(DEVICE)),$(make_standins))
	$(BIN)/pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/test.stamp: .venv/serve.stamp requirements/test.txt
	@echo "Installing the requirements of tests and linters."
	@$(remove_standins)
	$(BIN)/pip install $(PIP_FLAGS) --no-build-isolation --use-pep517 -r requirements/test.txt
	@touch $@

.venv/train.stamp: .venv/serve.stamp requirements/train.txt
	$(BIN)/pip install $(PIP_FLAGS) --no-build-isolation --use-pep517 -r $(call lock,train)
	@touch $@

.venv/bench.stamp: .venv/serve.stamp requirements/bench.txt
	$(BIN)/pip install $(PIP_FLAGS) --no-build-isolation --use-pep517 -r $(call lock,bench)
	@touch $@

.venv/jobs.stamp: .venv/serve.stamp requirements/jobs.txt
	$(BIN)/pip install $(PIP_FLAGS) -r $(call lock,jobs)
	@touch $@

.venv/cluster.stamp: .venv/serve.stamp requirements/cluster.txt
	$(BIN)/pip install $(PIP_FLAGS) -r requirements/cluster.txt
	@touch $@

# Label Studio and the old SDK's server pin conflicting packages, so each has its own environment.
.venv-%/stamp: requirements/%.txt requirements/build.txt
	@echo "Installing $* into .venv-$* (once): one or two minutes."
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install $(PIP_FLAGS) -r requirements/build.txt
	.venv-$*/bin/pip install $(PIP_FLAGS) -r requirements/$*.txt
	@touch $@

# Label Studio takes about a minute to create its database. An empty one is created once, while the
# service is being installed; each new demo, and each test, starts with a copy. Memory is faster
# than a disk here, because each of the 400 steps waits until it is stored.
$(EMPTY_DATABASE): .venv-labelstudio/stamp
	@echo "Creating an empty database of Label Studio (once): about a minute."
	@mkdir -p $(@D)
	@folder=$$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	    { env -i PATH="$$PATH" HOME="$$folder" LABEL_STUDIO_BASE_DATA_DIR="$$folder" COLLECT_ANALYTICS=false \
	        LATEST_VERSION_CHECK=false SENTRY_DSN= .venv-labelstudio/bin/label-studio version > "$$folder/log" 2>&1 \
	        || { cat "$$folder/log"; exit 1; }; } && \
	    cp "$$folder/label_studio.sqlite3" $@
