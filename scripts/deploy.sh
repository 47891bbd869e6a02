#!/usr/bin/env bash
# Puts a release into service on this host, or puts the one before it back.
#
#   deploy.sh VERSION [ENVIRONMENT]        1.2.0 or v1.2.0
#   deploy.sh --rollback [ENVIRONMENT]     what rollback.sh does
#
# A host is what ONLY1MCP_ENV in the service's environment file says, `production` where it says nothing; an ENVIRONMENT
# that is another one is refused, so that what is meant for staging never reaches production.
#
# Whatever can fail without the service comes first: download, checksum, version, configuration. Only then is the service
# stopped, the binary in use kept as NAME.backup, the new one renamed into its place, started, and asked for its health.
# When anything fails after that, or a signal comes, all of it is undone and the service is as it was. A binary is only
# ever replaced by renaming, so there is a whole one in its place at any moment, even if this script is killed.
#
# Exit status: 0 in service; 2 wrong use; 3 failed, nothing was touched; 4 failed, everything is as it was;
# 5 failed, and so did going back: somebody has to look; 75 another deployment is running.
#
# Settings, from the environment:
#   DEPLOY_RELEASES          where releases are: an https:// address (http:// on loopback) or a directory, below which
#                            are vVERSION/only1mcp-VERSION-linux-ARCH and vVERSION/SHA256SUMS
#   DEPLOY_ATTESTED_BY       OWNER/REPOSITORY: `gh attestation verify` has to confirm that its workflow built the binary
#   DEPLOY_BINARY            /usr/local/bin/only1mcp
#   DEPLOY_CONFIG            /etc/only1mcp/config.yaml
#   DEPLOY_ENVIRONMENT_FILE  /etc/only1mcp/environment: the service's EnvironmentFile, taken for `validate`
#   DEPLOY_VALIDATE          yes; `no` where only systemd can read the secrets (LoadCredential): the start has to tell then
#   DEPLOY_USER              only1mcp: whom `validate` runs as where this script is root and there is such a user
#   DEPLOY_UNIT              only1mcp
#   DEPLOY_HEALTH_URL        http://127.0.0.1:8080/health
#   DEPLOY_HEALTH_TRIES      30, with DEPLOY_HEALTH_WAIT_S (2) between them
#   DEPLOY_STOP_TIMEOUT_S    60: how long the service may take to finish what is in flight before it is killed
#   DEPLOY_START_TIMEOUT_S   60
#   DEPLOY_LOCK              /run/only1mcp-deploy.lock
# shellcheck disable=SC2329 # what traps call is called
set -euo pipefail
export LC_ALL=C
umask 022

# What a download may take; the binary has some 50 MB.
readonly MAX_BYTES=$((512 * 1024 * 1024)) DOWNLOAD_TIMEOUT_S=600
readonly SEMVER='^v?((0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)$'

stage=''        # a directory beside the binary, so that renaming out of it is atomic
touched=no      # whether the service or its binary may have changed
installed=no    # whether files may have changed
finished=no
was_running=no
had_binary=no
had_backup=no

say() { printf 'deploy: %s\n' "$*" || true; } # nobody reading is no reason to stop half-way
complain() { printf 'deploy: %s\n' "$*" >&8 || true; } # where 2 may be that of a child for a moment
die() {
    complain "$*"
    exit 3
}
usage() {
    complain "$*"
    complain 'usage: deploy.sh VERSION [ENVIRONMENT] | deploy.sh --rollback [ENVIRONMENT]'
    exit 2
}

# bash answers signals at once only while it waits. The lock is not for the children.
run() {
    "$@" </dev/null 8>&- 9>&- &
    local status child=$!
    while :; do
        status=0
        wait "$child" || status=$?
        # A signal while everything is put back ends the waiting, not the child.
        if ((status <= 128)) || ! kill -0 "$child" 2>/dev/null; then break; fi
    done
    return "$status"
}

interrupted() {
    complain "interrupted by SIG$1"
    # Asked of bash, which knows of a child that has only just begun.
    local child
    for child in $(jobs -p); do
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    exit 3
}

leave() {
    local status=$?
    trap : TERM INT HUP
    trap - EXIT
    set +e
    if [[ $finished == no && $touched == yes ]]; then
        if undo; then
            complain 'failed; everything is as it was'
            status=4
        else
            complain "failed, and so did going back: look at \`systemctl status $DEPLOY_UNIT\` and $DEPLOY_BINARY"
            status=5
        fi
    fi
    [[ -z $stage ]] || rm -rf -- "$stage"
    exit "$status"
}

undo() {
    local well=0
    say 'going back to what was there'
    if [[ $installed == yes ]]; then
        stop_service || well=1
        put_back "$had_binary" "$stage/previous" "$DEPLOY_BINARY" || well=1
        put_back "$had_backup" "$stage/older" "$backup" || well=1
    fi
    if [[ $was_running == yes ]]; then
        start_service && healthy || well=1
    fi
    return "$well"
}

put_back() {
    if [[ $1 == yes ]]; then
        rename "$2" "$3"
    else
        rm -f -- "$3"
    fi
}

# mv refuses two names of one file, of which nothing has to be renamed.
rename() { [[ $1 -ef $2 ]] || mv -fT -- "$1" "$2"; }

# A second name for a file where the file system allows it, else a copy.
link() { ln -- "$1" "$2" 2>/dev/null || cp -p -- "$1" "$2"; }

settings() {
    DEPLOY_RELEASES=${DEPLOY_RELEASES:-}
    DEPLOY_ATTESTED_BY=${DEPLOY_ATTESTED_BY:-}
    DEPLOY_BINARY=${DEPLOY_BINARY:-/usr/local/bin/only1mcp}
    DEPLOY_CONFIG=${DEPLOY_CONFIG:-/etc/only1mcp/config.yaml}
    DEPLOY_ENVIRONMENT_FILE=${DEPLOY_ENVIRONMENT_FILE:-/etc/only1mcp/environment}
    DEPLOY_VALIDATE=${DEPLOY_VALIDATE:-yes}
    DEPLOY_USER=${DEPLOY_USER:-only1mcp}
    DEPLOY_UNIT=${DEPLOY_UNIT:-only1mcp}
    DEPLOY_HEALTH_URL=${DEPLOY_HEALTH_URL:-http://127.0.0.1:8080/health}
    DEPLOY_HEALTH_TRIES=${DEPLOY_HEALTH_TRIES:-30}
    DEPLOY_HEALTH_WAIT_S=${DEPLOY_HEALTH_WAIT_S:-2}
    DEPLOY_STOP_TIMEOUT_S=${DEPLOY_STOP_TIMEOUT_S:-60}
    DEPLOY_START_TIMEOUT_S=${DEPLOY_START_TIMEOUT_S:-60}
    DEPLOY_LOCK=${DEPLOY_LOCK:-/run/only1mcp-deploy.lock}
    readonly backup=$DEPLOY_BINARY.backup

    [[ $DEPLOY_BINARY =~ ^/.+/[^/]+$ ]] || usage "DEPLOY_BINARY must be an absolute path, got '$DEPLOY_BINARY'"
    [[ $DEPLOY_HEALTH_TRIES =~ ^[1-9][0-9]{0,3}$ ]] ||
        usage "DEPLOY_HEALTH_TRIES must be a number from 1 to 9999, got '$DEPLOY_HEALTH_TRIES'"
    local name
    for name in DEPLOY_HEALTH_WAIT_S DEPLOY_STOP_TIMEOUT_S DEPLOY_START_TIMEOUT_S; do
        [[ ${!name} =~ ^[0-9]{1,5}(\.[0-9]{1,3})?$ ]] || usage "$name must be a number of seconds, got '${!name}'"
    done
    [[ $DEPLOY_VALIDATE == yes || $DEPLOY_VALIDATE == no ]] ||
        usage "DEPLOY_VALIDATE must be yes or no, got '$DEPLOY_VALIDATE'"
    [[ -z $environment || $environment =~ ^[A-Za-z0-9_-]{1,64}$ ]] ||
        usage "ENVIRONMENT must be a word such as production or staging, got '$environment'"
}

requirements() {
    local tool
    for tool in awk cmp curl flock sha256sum systemctl timeout; do
        command -v "$tool" >/dev/null || die "$tool is needed and not installed"
    done
    run systemctl cat "$DEPLOY_UNIT" >/dev/null 2>&1 ||
        die "there is no unit $DEPLOY_UNIT: install deploy/systemd/only1mcp.service first"
    [[ ! -d $DEPLOY_BINARY ]] || die "$DEPLOY_BINARY is a directory"
}

# The kernel lets go of the lock when this process ends, however it ends.
lock() {
    : 2>/dev/null >>"$DEPLOY_LOCK" || die "cannot write $DEPLOY_LOCK: run as root, or set DEPLOY_LOCK"
    exec 9>>"$DEPLOY_LOCK"
    if ! flock --nonblock 9; then
        complain 'another deployment is running on this host'
        exit 75
    fi
}

open_stage() {
    local folder=${DEPLOY_BINARY%/*}
    # What a killed run has left; nobody else is at work, as the lock is ours.
    rm -rf -- "${folder:?}"/.only1mcp-deploy.?????? 2>/dev/null || true
    stage=$(mktemp -d "$folder/.only1mcp-deploy.XXXXXX" 2>&1) || {
        local reason=$stage
        stage=''
        die "cannot write to $folder: ${reason##*: }"
    }
    chmod 0755 "$stage"
}

fetch() {
    local name=$1 from=$DEPLOY_RELEASES/v$version/$1
    case $DEPLOY_RELEASES in
        /*)
            [[ -f $from ]] || die "there is no $from"
            run cp -- "$from" "$stage/$name" || die "cannot copy $from to $stage"
            ;;
        *)
            run curl --fail --silent --show-error --location --proto "=$scheme" --proto-redir "=$scheme" --retry 3 \
                --connect-timeout 10 --max-time "$DOWNLOAD_TIMEOUT_S" --max-filesize "$MAX_BYTES" \
                --output "$stage/$name" -- "$from" || die "cannot download $from"
            ;;
    esac
}

download() {
    local scheme=https
    case $DEPLOY_RELEASES in
        '') die 'DEPLOY_RELEASES must say where releases are: an https:// address or a directory' ;;
        /* | https://?*) ;;
        http://127.0.0.1[:/]* | http://localhost[:/]*) scheme=http ;;
        *) die "DEPLOY_RELEASES must be an https:// address or an absolute path, got '$DEPLOY_RELEASES'" ;;
    esac
    local artifact
    artifact=only1mcp-$version-linux-$(uname -m)
    say "getting $artifact"
    fetch SHA256SUMS
    fetch "$artifact"

    local expected actual
    expected=$(awk -v name="$artifact" '$2 == name || $2 == "*" name { print $1 }' "$stage/SHA256SUMS")
    [[ $expected =~ ^[0-9a-f]{64}$ ]] || die "SHA256SUMS must have one line for $artifact"
    actual=$(sha256sum -- "$stage/$artifact")
    [[ ${actual%% *} == "$expected" ]] ||
        die "the checksum of $artifact is wrong: SHA256SUMS says $expected, the file has ${actual%% *}"
    say 'the checksum is right'
    if [[ -n $DEPLOY_ATTESTED_BY ]]; then
        run gh attestation verify "$stage/$artifact" --repo "$DEPLOY_ATTESTED_BY" ||
            die "no attestation of $DEPLOY_ATTESTED_BY for $artifact"
    fi
    mv -- "$stage/$artifact" "$stage/candidate"
    chmod 0755 "$stage/candidate"

    local said
    said=$(timeout 30 "$stage/candidate" --version </dev/null 8>&- 9>&-) || die "$artifact does not run on this machine"
    [[ $said == "only1mcp $version" || $said == "only1mcp $version "* ]] ||
        die "$artifact says that it is '$said'"
    sync -- "$stage/candidate"
}

# Reads the environment of the service, and refuses to be on a host that is not what was asked for.
read_variables() {
    local line value here=production
    variables=("PATH=$PATH")
    if [[ -r $DEPLOY_ENVIRONMENT_FILE ]]; then
        while IFS= read -r line || [[ -n $line ]]; do
            [[ $line =~ ^[[:space:]]*([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]] || continue
            line=${BASH_REMATCH[1]}
            value=${BASH_REMATCH[2]}
            value=${value%"${value##*[![:space:]]}"}
            if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then
                value=${BASH_REMATCH[1]}
            fi
            [[ $line != ONLY1MCP_ENV ]] || here=$value
            variables+=("$line=$value")
        done <"$DEPLOY_ENVIRONMENT_FILE"
    fi
    variables+=("ONLY1MCP_ENV=$here")
    [[ -z $environment || $environment == "$here" ]] ||
        die "this host is $here, not $environment (ONLY1MCP_ENV in $DEPLOY_ENVIRONMENT_FILE)"
}

# Runs in a process of its own. Not `env NAME=VALUE`: everybody on the host can read the arguments of a process.
with_variables() {
    local name
    for name in $(compgen -e); do unset "$name" || true; done
    for name in "${variables[@]}"; do export "${name?}" || true; done
    exec timeout 60 "$@"
}

# The configuration is read with the environment, and by the user, that the service has.
validate() {
    local -a as=()
    [[ $DEPLOY_VALIDATE == yes ]] || return 0
    if [[ $(id -u) == 0 ]] && id -u "$DEPLOY_USER" >/dev/null 2>&1; then
        as=(runuser -u "$DEPLOY_USER" --)
    fi
    run with_variables "${as[@]}" "$stage/candidate" validate --config "$DEPLOY_CONFIG" ||
        die "the configuration $DEPLOY_CONFIG is not valid for it"
}

stop_service() {
    say "stopping $DEPLOY_UNIT"
    if run timeout --kill-after=5 "$DEPLOY_STOP_TIMEOUT_S" systemctl stop "$DEPLOY_UNIT"; then
        return 0
    fi
    complain "it does not stop within $DEPLOY_STOP_TIMEOUT_S s: killing it"
    run timeout --kill-after=5 30 systemctl kill --signal=KILL "$DEPLOY_UNIT" || true
    local try
    for ((try = 0; try < 20; try++)); do
        case $(state) in inactive | failed) return 0 ;; esac
        run sleep 0.5
    done
    complain 'it is still there'
    return 1
}

start_service() {
    say "starting $DEPLOY_UNIT"
    # Starts that failed before are no reason for systemd to refuse this one.
    run timeout 30 systemctl reset-failed "$DEPLOY_UNIT" 2>/dev/null || true
    run timeout --kill-after=5 "$DEPLOY_START_TIMEOUT_S" systemctl start "$DEPLOY_UNIT"
}

state() { timeout 30 systemctl is-active "$DEPLOY_UNIT" </dev/null 8>&- 9>&- || true; }

healthy() {
    local try now
    local -a options=(--fail --silent --show-error --max-time 5 --noproxy '*' --proto '=http,https' --output /dev/null)
    # On loopback the name in the certificate is another one.
    [[ ! $DEPLOY_HEALTH_URL =~ ^https://(127\.0\.0\.1|localhost|\[::1\])[:/] ]] || options+=(--insecure)
    say "asking $DEPLOY_HEALTH_URL"
    for ((try = 1; try <= DEPLOY_HEALTH_TRIES; try++)); do
        # An answer counts only while the service runs: something else may have its port.
        if run curl "${options[@]}" -- "$DEPLOY_HEALTH_URL" 2>"$stage/reason" && [[ $(state) == active ]]; then
            say 'it is healthy'
            return 0
        fi
        now=$(state)
        if [[ $now == failed || $now == inactive ]]; then
            complain "the service is $now"
            return 1
        fi
        ((try == DEPLOY_HEALTH_TRIES)) || run sleep "$DEPLOY_HEALTH_WAIT_S"
    done
    complain "it is not healthy after $DEPLOY_HEALTH_TRIES tries: $(tail -n 1 "$stage/reason")"
    return 1
}

put_into_service() {
    if [[ -e $DEPLOY_BINARY || -L $DEPLOY_BINARY ]]; then
        link "$DEPLOY_BINARY" "$stage/previous" || die "cannot keep $DEPLOY_BINARY: is the disk full?"
        link "$DEPLOY_BINARY" "$stage/backup" || die "cannot keep $DEPLOY_BINARY: is the disk full?"
        had_binary=yes
    fi
    if [[ -e $backup ]]; then
        link "$backup" "$stage/older" || die "cannot keep $backup: is the disk full?"
        had_backup=yes
    fi
    case $(state) in active | activating | reloading) was_running=yes ;; esac

    touched=yes
    stop_service || die "$DEPLOY_UNIT cannot be stopped"
    installed=yes
    # The same again leaves the backup what it was: another version to go back to.
    if [[ $had_binary == yes ]] && ! cmp --quiet -- "$DEPLOY_BINARY" "$stage/candidate"; then
        rename "$stage/backup" "$backup"
    fi
    rename "$stage/candidate" "$DEPLOY_BINARY"
    start_service || die "$DEPLOY_UNIT does not start; see \`journalctl -u $DEPLOY_UNIT\`"
    healthy || die 'the new version does not work'
    finished=yes
}

main() {
    exec 8>&2
    local version='' rollback=no environment
    local -a variables=()
    if [[ ${1:-} == --rollback ]]; then
        rollback=yes
    elif [[ ${1:-} =~ $SEMVER && ${#1} -le 64 ]]; then
        version=${BASH_REMATCH[1]}
    else
        usage "VERSION must be like 1.2.0, got '${1:-}'"
    fi
    (($# <= 2)) || usage 'too many arguments'
    environment=${2:-}
    settings

    trap '' PIPE
    trap leave EXIT
    trap 'interrupted TERM' TERM
    trap 'interrupted INT' INT
    trap 'interrupted HUP' HUP
    read_variables
    requirements
    lock
    if [[ $rollback == yes ]]; then
        [[ -f $backup && -x $backup ]] || die "there is no $backup to go back to"
        ! cmp --quiet -- "$DEPLOY_BINARY" "$backup" || die "$backup is what is in service already"
        open_stage
        link "$backup" "$stage/candidate" || die "cannot copy $backup: is the disk full?"
    else
        open_stage
        download
    fi
    validate
    put_into_service
    say "in service: $(timeout 30 "$DEPLOY_BINARY" --version </dev/null 8>&- 9>&-)"
}

main "$@"
exit
