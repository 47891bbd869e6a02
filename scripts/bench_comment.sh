#!/usr/bin/env bash
# Puts $REPORT, of scripts/compare_bench.py, into the comment of pull request $NUMBER that is for it: `gh` with GH_TOKEN.
set -euo pipefail
# shellcheck disable=SC2016 # $... is jq's
of_ours='.[] | select(.user.login == "github-actions[bot]" and (.body | startswith("<!-- compare-bench -->"))) | .id'
id=$(gh api --paginate "repos/$GH_REPO/issues/$NUMBER/comments" --jq "$of_ours" | head -n 1)
if [[ -n $id ]]; then
    gh api --method PATCH "repos/$GH_REPO/issues/comments/$id" --raw-field body="$REPORT" --silent
else
    gh api --method POST "repos/$GH_REPO/issues/$NUMBER/comments" --raw-field body="$REPORT" --silent
fi
