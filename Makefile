# Each target first sets up .venv, from pyproject.toml and constraints.txt; the next run starts at once.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOG := $(VENV)/setup.log
PACKER := build/mcpb
SITE_TOOLS := build/site-tools
COMPILE := --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	--custom-compile-command "make constraints"
UNREACHABLE := 'connection|name resolution|not known|unreachable|timed out|dns error|error sending request'
RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
CREATES := 2000
SEED := 4
STORES := some
PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS
# What is compiled once need not be compiled by each process that a target starts.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check snapshots docs pictures package bench campaign torture hosts site live constraints clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Make a video on the sandbox, through the MCP server, step by step
	@$(BIN)/sync-mcp demo --output demo-output

# What is compiled is kept, whatever the environment says: each worker, and each command that a test starts,
# would compile all of it anew.
test: $(READY) ## Run all tests; with STORES=every those of the ledger on PostgreSQL too, where some run in any case
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal --stores=$(STORES)

check: $(READY) ## Check format, lint, types, generated docs and schema snapshots
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python tests/docs/generate.py --check
	$(BIN)/python tests/snapshots/generate.py --check

snapshots: $(READY) ## Write tests/snapshots anew, from the tools as they are
	@$(BIN)/python tests/snapshots/generate.py

docs: snapshots ## Write the generated parts of README.md and docs/ anew
	@$(BIN)/python tests/docs/generate.py

pictures: $(READY) ## Play the demo, and draw the pictures of README.md anew
	@$(BIN)/python -m tests.docs.picture

package: $(READY) $(PACKER)/.ready ## Build the wheel, the sdist, the bundle and server.json into dist/ (needs Node)
	@$(BIN)/python -m tests.package.build $(PACKER)/node_modules/.bin/mcpb

bench: $(READY) ## Measure start, calls, sizes and memory, as ratios to a bare server of the SDK
	@$(BIN)/python -m tests.bench

campaign: $(READY) ## Dub 60 clips into 3 languages by runners that are killed and stopped: each row is paid and saved once; plan 5,000
	@$(BIN)/python -m tests.campaigns.trial

torture: $(READY) ## Kill servers while they pay: nothing lost, doubled, unasked or over budget (CREATES=2000, SEED=4)
	@$(BIN)/python -m tests.torture --creates $(CREATES) --seed $(SEED)

hosts: $(READY) ## Start hosts and frameworks at pinned versions on the sandbox, and compare them with docs/hosts.md (HOSTS=NAMES)
	@$(BIN)/python -m tests.hosts $(HOSTS)

site: $(SITE_TOOLS)/.ready ## Build the pages of docs/ as a site into build/site, and follow every link
	@$(BIN)/python -m tests.docs.site $(SITE_TOOLS)/bin/zensical

live: $(READY) ## With a real SYNC_API_KEY: free reads only, each difference from what is expected here
	@$(BIN)/python -m tests.live

constraints: ## Write constraints.txt anew after a change of pyproject.toml (needs uv)
	@uv pip compile pyproject.toml --extra media --extra postgres --group dev --group build $(COMPILE) --output-file constraints.txt
	@uv pip compile pyproject.toml --extra media --extra postgres $(COMPILE) --constraint constraints.txt \
		--output-file .package/runtime.txt
	@uv pip compile .package/tools.in $(COMPILE) --output-file .package/tools.txt
	@uv pip compile .github/site/requirements.in $(COMPILE) --output-file .github/site/requirements.txt

clean: ## Remove .venv, caches, what was built, and demo output
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist demo-output

$(PACKER)/.ready: .package/node/package.json .package/node/hashes.json
	@mkdir -p $(PACKER)
	@.ci/node/install.sh $(PACKER) .package/node >/dev/null
	@touch $@

$(SITE_TOOLS)/.ready: .github/site/requirements.txt | $(READY)
	@if command -v uv >/dev/null; then \
		uv venv --quiet --no-project --allow-existing --python $(BIN)/python $(SITE_TOOLS) && \
		uv pip install --quiet --python $(SITE_TOOLS)/bin/python --no-deps --require-hashes --requirement $<; \
	else \
		$(BIN)/python -m venv $(SITE_TOOLS) && \
		$(SITE_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
			--requirement $<; \
	fi
	@touch $@

$(READY): pyproject.toml constraints.txt
	@if ! mkdir -p $(VENV) 2>/dev/null || ! touch $(LOG) 2>/dev/null; then \
		echo "Nothing can be written in $(CURDIR), where $(VENV) and the results go:" \
			"copy this folder to one of your own, and run make there." >&2; exit 1; \
	fi
	@echo "Setting up $(VENV) ..."
	@if ! $(BIN)/python $(RECENT) 2>/dev/null; then \
		rm -rf $(VENV); \
		if command -v uv >/dev/null; then \
			uv venv --quiet --no-project --python '$(if $(PYTHON),$(PYTHON),>=3.11)' $(VENV) || exit 1; \
		else \
			for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
				if $$python $(RECENT) 2>/dev/null; then found=$$python; break; fi; \
			done; \
			if [ -z "$$found" ]; then \
				echo "No Python 3.11 or newer found. Name one: make PYTHON=/path/to/python3" >&2; exit 1; \
			fi; \
			if ! $$found -m venv $(VENV); then \
				echo "$$found cannot make a virtual environment: install its venv module, or uv." >&2; exit 1; \
			fi; \
		fi; \
	fi
	@if command -v uv >/dev/null; then \
		uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --requirement constraints.txt && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
		export PIP_DISABLE_PIP_VERSION_CHECK=1; \
		{ $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; } && \
		$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement constraints.txt && \
		$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	fi >$(LOG) 2>&1 || { \
		cat $(LOG) >&2; \
		if grep -qiE $(UNREACHABLE) $(LOG); then \
			echo "No package index can be reached: the first run fetches what stands in constraints.txt." \
				"Connect to the network, or name an index that can be reached, and run make again." >&2; \
		else \
			echo "The packages could not be installed, for the reason above." >&2; \
		fi; exit 1; \
	}
	@touch $@
