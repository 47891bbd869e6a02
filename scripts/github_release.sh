#!/usr/bin/env bash
# Makes the GitHub release of a version from what is in a folder: github_release.sh VERSION FOLDER, with `gh` and its GH_TOKEN.
#
# The notes are the section of the changelog. A release that is there already (a run done again) gets the files anew. Then all
# of it is downloaded, as others will: it has to be what was uploaded, and attested by the workflow of this repository,
# GH_REPO.
set -euo pipefail
cd "$(dirname -- "$(readlink -f -- "$0")")/.."

complain() { printf 'github_release: %s\n' "$*" >&2; }
tag=v${1#v} folder=${2:-}
[[ $tag =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ && -d $folder ]] || {
    complain 'usage: github_release.sh VERSION FOLDER'
    exit 2
}
[[ -n ${GH_REPO:-} ]] || {
    complain 'GH_REPO must name the repository, OWNER/NAME'
    exit 2
}
folder=$(readlink -f -- "$folder")
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

fetched=$(mktemp -d)
trap 'rm -rf -- "$fetched"' EXIT
gh release download "$tag" --dir "$fetched"
cmp -- "$folder/SHA256SUMS" "$fetched/SHA256SUMS"
cd "$fetched"
sha256sum --check --strict --quiet SHA256SUMS
while read -r _ file; do
    gh attestation verify "$file" --repo "$GH_REPO" --signer-workflow "$GH_REPO/.github/workflows/release.yml" </dev/null >/dev/null || {
        complain "no attestation of $GH_REPO for $file"
        exit 1
    }
done <SHA256SUMS
