#!/usr/bin/env bash
# Installs what the suites from outside need, each file by its hash.
#
# install.sh FOLDER [SOURCE]: FOLDER gets node_modules with what SOURCE names, by default what lies beside this file.
# hashes.json is a lock file of npm without download addresses. To write it anew, with package.json changed, in an
# empty folder that holds a copy of it:
#   npm install --package-lock-only --omit-lockfile-registry-resolved && mv package-lock.json hashes.json
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=${2:-$here}
cp "$source/package.json" "$1/package.json"
cp "$source/hashes.json" "$1/package-lock.json"
npm ci --prefix "$1" --no-fund --no-audit --loglevel=error
