#!/usr/bin/env bash
# Runs deploy.sh on another host: deploy_remote.sh VERSION|--rollback [ENVIRONMENT], with root's rights by sudo.
#
# Settings, from the environment:
#   SSH_HOST, SSH_USER      where, and who may `sudo -n` there
#   SSH_KEY                 the private key itself, or nothing where ssh knows one
#   SSH_KNOWN_HOSTS         the lines of known_hosts for the host: an unknown host is refused
#   DEPLOY_*                those of deploy.sh that are set here are set there
#
# The exit status is that of deploy.sh, 255 where ssh could not connect.
set -euo pipefail
umask 077

complain() { printf 'deploy_remote: %s\n' "$*" >&2; }
for name in SSH_HOST SSH_USER SSH_KNOWN_HOSTS; do
    if [[ -z ${!name:-} ]]; then
        complain "$name is not set"
        exit 2
    fi
done
# ssh would take what begins with a dash for an option.
[[ $SSH_HOST =~ ^[A-Za-z0-9:.][A-Za-z0-9:.-]*$ && $SSH_USER =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] || {
    complain "SSH_HOST and SSH_USER must be names, got '$SSH_USER' at '$SSH_HOST'"
    exit 2
}

folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
printf '%s\n' "$SSH_KNOWN_HOSTS" >"$folder/known_hosts"
options=(-o BatchMode=yes -o StrictHostKeyChecking=yes -o "UserKnownHostsFile=$folder/known_hosts")
options+=(-o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=8)
if [[ -n ${SSH_KEY:-} ]]; then
    printf '%s\n' "$SSH_KEY" >"$folder/key"
    options+=(-i "$folder/key" -o IdentitiesOnly=yes)
fi

# The shell on the other side takes the words apart again.
remote=(sudo -n env)
while IFS= read -r name; do
    remote+=("$name=${!name}")
done < <(compgen -A export DEPLOY_ || true)
remote+=(bash -s -- "$@")
printf -v command '%q ' "${remote[@]}"
ssh "${options[@]}" -- "$SSH_USER@$SSH_HOST" "$command" <"$(dirname -- "$(readlink -f -- "$0")")/deploy.sh"
