# `make help` lists what there is. Each target installs what it needs, only when its lock changed.

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
BIN := .venv/bin
PIP_FLAGS := --disable-pip-version-check --require-hashes --no-deps
include deploy/ray.env
export $(shell sed -n 's/^\([A-Za-z_]*\)=.*/\1/p' deploy/ray.env)
export PYTHONUNBUFFERED := 1

.PHONY: help serve test lint e2e test-cluster soak nightly train-demo measure-demo bench lock format docs image-test clean \
    cluster-up cluster-tunnel cluster-deploy cluster-down

help:  ## This list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

serve: .venv/serve.stamp  ## Run the service on port 9090 (CONFIG=other.yaml for another file)
	exec $(BIN)/prelabel serve $(CONFIG)

test: .venv/test.stamp .venv-reference/stamp .venv-sbom/stamp  ## Unit and service tests (a real local Ray, the embedded model)
	$(BIN)/pytest $(ARGS)

lint: .venv/test.stamp  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/test.stamp  ## Put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e: .venv/test.stamp .venv-labelstudio/stamp  ## A real Label Studio and browser
	@command -v chromium >/dev/null || { echo "The browser tests need Chromium: apt-get install chromium"; exit 1; }
	$(BIN)/pytest tests/e2e -v -o log_cli=true -o log_cli_level=INFO $(ARGS)

test-cluster: .venv/test.stamp  ## Several Ray nodes on this machine: scaling, faults, rollouts, the head
	@command -v redis-server >/dev/null || { echo "A test of the head needs Redis: apt-get install redis-server"; exit 1; }
	$(BIN)/pytest tests/cluster -v -o log_cli=true -o log_cli_level=INFO $(ARGS)

soak: .venv/test.stamp  ## Steady mixed work, in search of leaks and slowness (MINUTES=2 for a try)
	$(BIN)/python -m tests.support.soak --minutes $(MINUTES)

nightly:  ## What is too long for every change: test-cluster, image-test, soak; an hour, alone on the machine
	$(MAKE) test-cluster
	$(MAKE) image-test
	$(MAKE) soak

# Freed memory stays with the process, in huge pages: a training step takes a tenth less time.
train-demo: export GLIBC_TUNABLES := glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456
train-demo: .venv/train.stamp  ## Train the demo model from nothing; go on where it was stopped (RECIPE=tiny for a try)
	$(BIN)/python -m training.train --recipe $(RECIPE) $(ARGS)

measure-demo: .venv/train.stamp  ## Measure the demo model on held-out scenes (ARGS=--engines: compare the engines)
	$(BIN)/python -m training.evaluate $(ARGS)

bench: .venv/bench.stamp  ## Measure speed, beside the bare model and the alternatives (20 minutes; ARGS="--parts engine")
	$(BIN)/python -m benchmarks.run $(ARGS)

cluster-up: .venv/cluster.stamp $(HOME)/.ray/auth_token  ## Start or repair the Ray cluster of cluster.yaml (CLUSTER=deploy/cluster.gcp.yaml)
	RAY_AUTH_MODE=token $(BIN)/ray up --yes $(CLUSTER)

cluster-tunnel: .venv/cluster.stamp  ## Reach the cluster's dashboard at localhost:8265; leave it open
	RAY_AUTH_MODE=token $(BIN)/ray dashboard $(CLUSTER)

cluster-deploy: .venv/cluster.stamp  ## Deploy serve_config.production.yaml through the tunnel, again for every change
	@mkdir -p artifacts
	$(BIN)/python deploy/release.py $(PRODUCTION) > artifacts/released.yaml
	RAY_AUTH_MODE=token $(BIN)/serve deploy artifacts/released.yaml

cluster-down: .venv/cluster.stamp  ## End the cluster, with all its nodes
	RAY_AUTH_MODE=token $(BIN)/ray down --yes $(CLUSTER)

$(HOME)/.ray/auth_token: | .venv/serve.stamp
	RAY_AUTH_MODE=token $(BIN)/ray get-auth-token --generate > /dev/null

docs: .venv/serve.stamp  ## Write docs/settings.md
	$(BIN)/python docs/settings_table.py

image-test:  ## Build the container image with buildah, run it and look what it does (DEVICE=gpu for the other)
	deploy/image_test.sh

lock:  ## Resolve the requirements anew (needs uv)
	@command -v uv >/dev/null || { echo "Locking needs uv: pip install uv"; exit 1; }
	cd requirements && for name in build serve train bench cluster test labelstudio reference sbom; do \
	    uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes \
	        --no-emit-index-url --no-header --override overrides.in $$name.in -o $$name.txt; \
	done

clean:  ## Remove the virtual environments and everything that was built
	rm -rf .venv .venv-labelstudio .venv-reference artifacts build *.egg-info .*_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 12) else "prelabel needs Python 3.11 or 3.12, and this is " + sys.version.split()[0] + ". Install one, or name it: make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/serve.stamp: requirements/build.txt requirements/serve.txt pyproject.toml | .venv/bin/python
	@echo "Installing the service into .venv: about 6 GB and some minutes, once."
	$(BIN)/pip install $(PIP_FLAGS) -r requirements/build.txt
	$(BIN)/pip install $(PIP_FLAGS) --no-build-isolation --use-pep517 -r requirements/serve.txt
	$(BIN)/pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/test.stamp: .venv/serve.stamp requirements/test.txt
	@echo "Installing what the tests and linters need."
	$(BIN)/pip install $(PIP_FLAGS) --no-build-isolation --use-pep517 -r requirements/test.txt
	@touch $@

.venv/train.stamp: .venv/serve.stamp requirements/train.txt
	$(BIN)/pip install $(PIP_FLAGS) --no-build-isolation --use-pep517 -r requirements/train.txt
	@touch $@

.venv/bench.stamp: .venv/serve.stamp requirements/bench.txt
	$(BIN)/pip install $(PIP_FLAGS) --no-build-isolation --use-pep517 -r requirements/bench.txt
	@touch $@

.venv/cluster.stamp: .venv/serve.stamp requirements/cluster.txt
	$(BIN)/pip install $(PIP_FLAGS) -r requirements/cluster.txt
	@touch $@

# Label Studio and the old SDK's server pin packages of their own: each lives by itself.
.venv-%/stamp: requirements/%.txt requirements/build.txt
	@echo "Installing $* into .venv-$*: one or two minutes, once."
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install $(PIP_FLAGS) -r requirements/build.txt
	.venv-$*/bin/pip install $(PIP_FLAGS) -r requirements/$*.txt
	@touch $@
