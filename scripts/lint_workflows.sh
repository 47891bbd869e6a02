#!/usr/bin/env bash
# Runs zizmor and actionlint on the workflows of a folder (this one): lint_workflows.sh [FOLDER].
#
# actionlint comes from the module proxy of Go, whose checksum database vouches for it, and is built once into
# build/tools; without Go it is not run, which is said. Its checks of `run:` lines use the shellcheck on the path.
set -euo pipefail
cd "$(dirname -- "$(readlink -f -- "$0")")/.."

version=v1.7.12
actionlint=$PWD/build/tools/actionlint-$version/actionlint
folder=${1:-.}

if [[ ! -d $folder/.github/workflows ]]; then
    echo 'there are no workflows here: this is no clone' >&2
    exit 0
fi
zizmor --quiet --offline --no-progress --strict-collection "$folder"
if [[ ! -x $actionlint ]]; then
    if ! command -v go >/dev/null; then
        echo 'actionlint is not run: it is built with Go, and there is none here' >&2
        exit 0
    fi
    GOBIN=${actionlint%/*} GOFLAGS='' go install "github.com/rhysd/actionlint/cmd/actionlint@$version"
fi
"$actionlint" -- "$folder"/.github/workflows/*.yml
