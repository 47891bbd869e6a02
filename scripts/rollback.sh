#!/usr/bin/env bash
# Puts the version back that the last deployment has replaced: rollback.sh [ENVIRONMENT]. Done twice it is undone.
# Settings and exit status are those of deploy.sh.
set -euo pipefail
exec bash "$(dirname -- "$(readlink -f -- "$0")")/deploy.sh" --rollback "$@"
