#!/usr/bin/env bash
# The package: built, installed in every way that docs/install.md names, far from the clone, and started.
#
# It needs .venv and Node; what else it takes (uv, pipx and linters by their hashes) it installs for the run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make package
"$(readlink -f .venv/bin/python)" -m venv "$work/tools"
PIP_DISABLE_PIP_VERSION_CHECK=1 "$work/tools/bin/python" -m pip install --quiet --quiet --no-deps --require-hashes \
    --requirement .package/tools.txt
.venv/bin/python -m tests.package.install "$work/tools/bin" build/mcpb
