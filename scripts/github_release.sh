#!/usr/bin/env bash
# Makes the GitHub release of a version from what is in a folder: github_release.sh VERSION FOLDER, with `gh` and its GH_TOKEN.
#
# The notes are the section of the changelog. A release that is there already (a run done again) gets the files anew.
set -euo pipefail
cd "$(dirname -- "$(readlink -f -- "$0")")/.."

complain() { printf 'github_release: %s\n' "$*" >&2; }
tag=v${1#v} folder=${2:-}
[[ $tag =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ && -d $folder ]] || {
    complain 'usage: github_release.sh VERSION FOLDER'
    exit 2
}
[[ -s $folder/SHA256SUMS ]] || {
    complain "there is no SHA256SUMS in $folder: make checksums"
    exit 1
}
(cd "$folder" && sha256sum --check --strict --quiet SHA256SUMS)

notes=$(awk -v heading="## [${tag#v}]" '
    index($0, "## [") == 1 { inside = index($0, heading) == 1; next }
    inside { print }
' CHANGELOG.md)
[[ -n ${notes//[[:space:]]/} ]] || {
    complain "CHANGELOG.md says nothing about ${tag#v}"
    exit 1
}

options=(--title "${tag#v}" --notes-file -)
[[ $tag != *-* ]] || options+=(--prerelease)
if gh release view "$tag" >/dev/null 2>&1; then
    gh release upload "$tag" --clobber "$folder"/*
else
    gh release create "$tag" --verify-tag "${options[@]}" "$folder"/* <<<"$notes"
fi
