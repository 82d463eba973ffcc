#!/usr/bin/env bash
# The Inspector against the server: its command line in both eras of the protocol, under load, and its web page.
#
#   tests/inspector/run.sh FOLDER_OF_NODE_MODULES
#
# It needs .venv (make sets it up), and node_modules with node 22.19 or newer, the Inspector and playwright-core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

modules=$1
server=.venv/bin/sync-mcp
TOOL_ERROR=5
LOAD=(--load --load-requests 200 --load-concurrency 20)
MEDIA='[{"type": "video", "url": "https://assets.sync.so/docs/example-video.mp4"},
        {"type": "audio", "url": "https://assets.sync.so/docs/example-audio.wav"}]'

work=$(mktemp -d)
http_pid=
finish() {
    if [ -n "$http_pid" ]; then
        kill "$http_pid" 2>/dev/null || true
        wait "$http_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

# A home of its own: the Inspector writes down which servers it has seen.
inspect() {
    HOME="$work" PATH="$modules/node_modules/.bin:$PATH" timeout 120 mcp-inspector --cli "$@"
}

on_stdio() {
    inspect "$server" --sandbox -e SYNC_MCP_LOG_LEVEL=warning -e SYNC_MCP_TOOLSETS=all "$@"
}

expect() {
    if ! grep -qF -- "$1" "$work/answer"; then
        printf 'The answer lacks "%s":\n' "$1"
        cat "$work/answer"
        return 1
    fi
}

good_call() {
    on_stdio --protocol-era "$era" --method tools/call --tool-name "$1" --tool-args-json "$2" >"$work/answer"
    expect "$3"
    expect SANDBOX
}

bad_call() {
    local code=0
    on_stdio --protocol-era "$era" --method tools/call --tool-name "$1" --tool-args-json "$2" \
        >"$work/answer" 2>&1 || code=$?
    if [ "$code" -ne "$TOOL_ERROR" ]; then
        printf 'A bad call of %s ended with %d:\n' "$1" "$code"
        cat "$work/answer"
        return 1
    fi
    expect "$3"
    expect 'No money was spent.'
}

for era in legacy modern; do
    on_stdio --protocol-era "$era" --method tools/list --strict >"$work/answer"
    for tool in create_generation create_generations get_generation wait_for_generations list_generations \
        estimate_cost get_account; do
        expect "\"name\": \"$tool\""
    done
    unknown_id='{"generation_id": "6533643b-aceb-4c40-967e-d9ba9baac39e"}'
    good_call estimate_cost "{\"input\": $MEDIA}" cost_usd
    good_call create_generation "{\"input\": $MEDIA, \"wait_seconds\": 20}" COMPLETED
    good_call list_generations '{"limit": 2}' '"generations": []'
    bad_call estimate_cost "{\"inptu\": $MEDIA}" "did you mean 'input'"
    bad_call create_generation "{\"input\": $MEDIA, \"modle\": \"lipsync-2\"}" "did you mean 'model'"
    bad_call get_generation "$unknown_id" generation_not_found
    bad_call list_generations '{"limt": 2}' "did you mean 'limit'"
    good_call get_account '{}' '"plan": "scale"'
    bad_call get_account '{"plan": "free"}' "no argument 'plan'"
    bad_call wait_for_generations '{"generation_ids": []}' generation_ids
    printf '%s: portable, good calls answered, bad calls refused with advice\n' "$era"
done

"$server" --sandbox --http --port 0 --log-level info 2>"$work/http.log" &
http_pid=$!
for _ in $(seq 100); do
    url=$(grep -oE 'http://127\.0\.0\.1:[0-9]+/mcp' "$work/http.log" || true)
    [ -n "$url" ] && break
    sleep 0.1
done

# A process of the Inspector's ends with its server, so a job can be looked up over HTTP alone.
inspect "$url" --protocol-era modern --method tools/call --tool-name create_generation \
    --tool-args-json "{\"input\": $MEDIA}" >"$work/answer"
id=$(grep -oE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' "$work/answer" | head -n 1)
for era in legacy modern; do
    inspect "$url" --protocol-era "$era" --method tools/call --tool-name get_generation \
        --tool-args-json "{\"generation_id\": \"$id\", \"wait_seconds\": 30}" >"$work/answer"
    expect COMPLETED
    inspect "$url" --protocol-era "$era" --method tools/call --tool-name wait_for_generations \
        --tool-args-json "{\"generation_ids\": [\"$id\"]}" >"$work/answer"
    expect COMPLETED
done
printf 'HTTP: a job made, waited for and answered in both eras\n'

for target in stdio "$url"; do
    if [ "$target" = stdio ]; then
        on_stdio --method tools/call --tool-name list_generations "${LOAD[@]}" --format json >"$work/answer"
    else
        inspect "$target" --method tools/call --tool-name list_generations "${LOAD[@]}" --format json \
            >"$work/answer"
    fi
    expect '"ok":200,"toolErrors":0,"errors":0'
    printf 'load: %s\n' "$(cat "$work/answer")"
done

if [ -z "${CHROMIUM:=$(command -v chromium || command -v google-chrome || true)}" ]; then
    printf 'SKIPPED: no browser is installed, so the web page was not tried\n'
    exit 0
fi
mkdir -p artifacts
TOOLS=$(.venv/bin/python -c 'from sync_mcp.tools.core import TOOLS; print(*(tool.name for tool in TOOLS))')
export TOOLS
PATH="$modules/node_modules/.bin:$PATH" timeout 300 node tests/inspector/web.mjs \
    "$modules" "$CHROMIUM" artifacts/inspector.png "$PWD/$server" --sandbox
