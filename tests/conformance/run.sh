#!/usr/bin/env bash
# The MCP conformance suite, on the fixture server beside this file: both requirement sets, and what it has of
# skills, which no set holds.
#
# run.sh [FOLDER]: FOLDER holds node_modules with the suite and Node; without it both are installed for the run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$here/../../.venv/bin/python
revisions=(2025-11-25 2026-07-28)
extensions=(sep-2640-skills-enumeration sep-2640-skills-manifest)

work=$(mktemp -d)
server=
finish() {
    local code=$?
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    if [ "$code" -ne 0 ] && [ -s "$work/server.log" ]; then
        printf 'The fixture server said:\n' >&2
        tail -40 "$work/server.log" >&2
    fi
    rm -rf "$work"
}
trap finish EXIT

modules=${1:-$work}
if [ $# -eq 0 ]; then
    "$here/../../.ci/node/install.sh" "$work"
fi

export SYNC_MCP_HOME=$work/home
mkfifo "$work/url"
"$python" "$here/fixture_server.py" >"$work/url" 2>"$work/server.log" &
server=$!
read -r -t 60 url <"$work/url"

code=0
results=()
for revision in "${revisions[@]}"; do
    results+=("$work/$revision")
    PATH="$modules/node_modules/.bin:$PATH" timeout 120 \
        conformance server --url "$url" --requirements "$revision" \
        --expected-failures "$here/expected_failures.yml" --output-dir "$work/$revision" \
        >"$work/$revision.log" 2>&1 || {
        code=1
        tail -20 "$work/$revision.log" >&2
    }
    for scenario in "${extensions[@]}"; do
        PATH="$modules/node_modules/.bin:$PATH" timeout 120 \
            conformance server --url "$url" --scenario "$scenario" --spec-version "$revision" --force \
            --output-dir "$work/$revision" >"$work/$scenario.log" 2>&1 || {
            code=1
            tail -20 "$work/$scenario.log" >&2
        }
    done
done
"$python" "$here/judge.py" "${results[@]}" || code=1
[ "$code" -eq 0 ] && printf 'All others passed, in %d s.\n' "$SECONDS"
exit "$code"
