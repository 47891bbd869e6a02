"""The guard's own program, run as a file without site-packages: wait for the proxy to vanish, then end its children.

Standard input carries one line per event: `?INODE` a child with this pipe as its input is about to be spawned (0: it
was not), `+GROUP` it runs, `-GROUP` all of its group is gone. End of input means that the proxy is gone.
"""

import os
import signal
import sys
import time

# Servers that were well behaved have seen their input close already; SIGTERM is for the others, SIGKILL for the rest.
TERM_GRACE_S = 1.5
KILL_GRACE_S = 1.5
POLL_S = 0.02


def main() -> None:
    # A terminal's Ctrl-C and a service manager's SIGTERM are for the proxy, which decides when the end has come.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    inode = 0
    rest = b""
    while data := os.read(0, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            number = int(line[1:])
            if line.startswith(b"?"):
                inode = number
            elif line.startswith(b"+"):
                groups.add(number)
                inode = 0
            else:
                groups.discard(number)
    if inode:
        groups |= spawned_with(inode)
    end(groups)


def spawned_with(inode: int) -> set[int]:
    """Return the groups led by a process whose standard input is the pipe `inode`, where /proc tells."""
    found = set()
    for name in os.listdir("/proc") if os.path.isdir("/proc/self/fd") else ():
        try:
            if os.readlink("/proc/" + name + "/fd/0") == f"pipe:[{inode}]" and os.getpgid(int(name)) == int(name):
                found.add(int(name))
        except (OSError, ValueError):
            continue
    return found


def end(groups: set[int]) -> None:
    """SIGTERM, a moment, SIGKILL: a group keeps its number while it has members, so nobody else's is ever hit."""
    for signal_number, grace_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, KILL_GRACE_S)):
        groups = {group for group in groups if reach(group, signal_number)}
        deadline = time.monotonic() + grace_s
        while groups and time.monotonic() < deadline:
            time.sleep(POLL_S)
            groups = {group for group in groups if reach(group, 0)}


def reach(group: int, number: int) -> bool:
    """Send a signal to a process group and return whether there was anyone to receive it."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
    sys.exit(0)
