#!/usr/bin/env bash
# Clients on older SDKs, each in an environment of its own, make a video on the sandbox over stdio and over HTTP.
#
# run.sh [FOLDER]: FOLDER holds node_modules with the SDK and Node; without it both are installed for the run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(cd "$here/../../.venv/bin" && pwd)

# The older release imports what newer releases of pydantic no longer have.
PYTHON_SDKS=(mcp-1.30.txt mcp-1.9.txt)

work=$(mktemp -d)
server=
finish() {
    local code=$?
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    if [ "$code" -ne 0 ] && [ -s "$work/server.log" ]; then
        printf 'The HTTP server said:\n' >&2
        tail -40 "$work/server.log" >&2
    fi
    rm -rf "$work"
}
trap finish EXIT

install_python_sdk() { # FOLDER REQUIREMENTS
    local hashes=(--no-deps --require-hashes --requirement "$2")
    if command -v uv >/dev/null; then
        uv venv --quiet --no-project --python "$bin/python" "$1"
        uv pip install --quiet --python "$1/bin/python" "${hashes[@]}"
    else
        "$bin/python" -m venv "$1"
        PIP_DISABLE_PIP_VERSION_CHECK=1 "$1/bin/python" -m pip install --quiet --quiet "${hashes[@]}"
    fi
}

run_client() { # COMMAND... : once over each transport
    printf 'stdio: '
    # A client hands on little of its own environment.
    timeout 120 "$@" /usr/bin/env SYNC_MCP_TOOLSETS="$SYNC_MCP_TOOLSETS" "$bin/sync-mcp" --sandbox --log-level warning
    printf 'HTTP:  '
    timeout 120 "$@" "$url"
}

if [ $# -eq 0 ]; then
    "$here/../../.ci/node/install.sh" "$work"
else
    ln -s "$(cd "$1" && pwd)/node_modules" "$work/node_modules"
fi
for number in "${!PYTHON_SDKS[@]}"; do
    install_python_sdk "$work/python$number" "$here/${PYTHON_SDKS[number]}"
done

export SYNC_MCP_HOME=$work/home
# Every tool there is: the snapshots say which.
export SYNC_MCP_TOOLSETS=all
"$bin/sync-mcp" --sandbox --http --port 0 2>"$work/server.log" &
server=$!
deadline=$((SECONDS + 60))
until url=$(grep -oE -m 1 'http://127\.0\.0\.1:[0-9]+/mcp' "$work/server.log"); do
    if ! kill -0 "$server" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
        printf 'The HTTP server did not start.\n' >&2
        exit 1
    fi
    sleep 0.2
done

for number in "${!PYTHON_SDKS[@]}"; do
    run_client "$work/python$number/bin/python" "$here/python_1x.py"
done
export SNAPSHOTS=$here/../snapshots
# Node looks for modules beside the script.
cp "$here/node_client.mjs" "$work/"
run_client "$work/node_modules/.bin/node" "$work/node_client.mjs"
