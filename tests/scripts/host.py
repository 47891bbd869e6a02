"""A host to deploy to: a folder with a binary, a configuration, releases to choose from, and a stand-in for systemd."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.e2e.processes import free_port, until

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
LAUNCHER = Path(sys.executable).with_name("only1mcp")
SMALL = Path(__file__).with_name("small_service.py")
TIMEOUT_S = 60.0

# Stands in for `systemctl` where no systemd runs: one service, whose folder is $STAND_IN. With a file `unkillable`
# there neither `stop` nor `kill` succeeds, with `absent` there is no such unit.
SYSTEMCTL = r"""
cd "$STAND_IN" || exit 1
running() {
    pid=$(cat pid 2>/dev/null) && stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
    case "${stat##*) }" in Z* | X*) return 1 ;; esac
}
case $1 in
    cat) [ ! -e absent ] ;;
    start)
        running && exit 0
        rm -f stopped
        setsid "$DEPLOY_BINARY" start --config "$DEPLOY_CONFIG" </dev/null >>journal 2>&1 &
        echo $! >pid
        ;;
    stop)
        [ ! -e unkillable ] || exit 1
        touch stopped
        running && kill "$pid"
        while running; do sleep 0.01; done
        ;;
    kill) [ ! -e unkillable ] && running && kill -9 "-$pid" ;;
    is-active)
        if running; then echo active; elif [ -e stopped ] || [ ! -e pid ]; then echo inactive; else echo failed; fi
        running
        ;;
esac
"""

# What a release does instead of running the proxy, by its first argument.
SILENT = "start) exec sleep 600 ;;"
CRASHING = "start) exit 1 ;;"
STUBBORN = "start) trap '' TERM; while :; do sleep 0.05; done ;;"


class Host:
    """`deploy` and `rollback` are the scripts. Releases are of the installed `only1mcp`, or where that takes too long
    of something small that does the same for whoever deploys it."""

    def __init__(self, folder: Path, *, real: bool) -> None:
        self._program = str(LAUNCHER) if real else f"{sys.executable} -IS {SMALL}"
        self.port = free_port()
        self.binary = folder / "bin" / "only1mcp"
        self.backup = folder / "bin" / "only1mcp.backup"
        self.config = folder / "config.yaml"
        self.releases = folder / "releases"
        self.systemd = folder / "systemd"
        self.tools = folder / "tools"
        self.variables = folder / "environment"
        for made in (self.binary.parent, self.releases, self.systemd, self.tools):
            made.mkdir(parents=True)
        self.config.write_text(
            f'version: "1.0"\nproxy: {{port: {self.port}}}\nmetrics: {{enabled: false}}\nservers: []\n'
        )
        self.tool("systemctl", SYSTEMCTL)
        self.environment = {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "STAND_IN": str(self.systemd),
            "DEPLOY_RELEASES": str(self.releases),
            "DEPLOY_BINARY": str(self.binary),
            "DEPLOY_CONFIG": str(self.config),
            "DEPLOY_ENVIRONMENT_FILE": str(self.variables),
            "DEPLOY_USER": "nobody-of-that-name",
            "DEPLOY_HEALTH_URL": f"http://127.0.0.1:{self.port}/health",
            "DEPLOY_HEALTH_TRIES": "100",
            "DEPLOY_HEALTH_WAIT_S": "0.05",
            "DEPLOY_STOP_TIMEOUT_S": "10",
            "DEPLOY_LOCK": str(folder / "lock"),
        }

    def tool(self, name: str, script: str) -> None:
        """Put a shell script before what else has its name."""
        file = self.tools / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def release(self, version: str, instead: str = "") -> Path:
        """Publish a version that runs the proxy, or does something else `instead`; return its binary."""
        folder = self.releases / f"v{version}"
        folder.mkdir()
        artifact = folder / f"only1mcp-{version}-linux-{platform.machine()}"
        artifact.write_text(
            f'#!/bin/sh\ncase "$1" in --version) echo "only1mcp {version} (compiled)"; exit ;; {instead} esac\n'
            f'ARTIFACT={version} exec {self._program} "$@"\n'
        )
        self.sign(version)
        return artifact

    def install(self, version: str) -> None:
        """Put a release in place and start it, as if it had been deployed."""
        (artifact,) = (self.releases / f"v{version}").glob("only1mcp-*")
        shutil.copy(artifact, self.binary)
        self.binary.chmod(0o755)
        started = self._systemctl("start")
        assert started.returncode == 0, started.stderr

    def sign(self, version: str) -> None:
        """Write the checksums of what the release contains."""
        folder = self.releases / f"v{version}"
        lines = [
            f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
            for file in sorted(folder.glob("only1mcp-*"))
        ]
        (folder / "SHA256SUMS").write_text("".join(lines))

    def command(self, *arguments: str, script: str = "deploy.sh") -> list[str]:
        return ["bash", str(SCRIPTS / script), *arguments]

    def deploy(
        self, *arguments: str, script: str = "deploy.sh", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, script=script),
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def rollback(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.deploy(*arguments, script="rollback.sh", **environment)

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a deployment whose standard output can be read line by line."""
        return subprocess.Popen(
            self.command(*arguments),
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int | None:
        """The process of the service, if it runs."""
        if self._systemctl("is-active").stdout != "active\n":
            return None
        return int((self.systemd / "pid").read_text())

    def in_service(self) -> str | None:
        """Return the version that answers, which must be the binary in place; None when nothing runs."""
        if self.pid is None:
            return None
        until(self._answers, 30, "an answer of /health")
        names = Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0")
        (version,) = [name.removeprefix(b"ARTIFACT=").decode() for name in names if name.startswith(b"ARTIFACT=")]
        assert version == self.version(self.binary)
        return version

    def version(self, binary: Path) -> str | None:
        """Return what the file says it is, which must be one of the releases, byte for byte; None without a file."""
        if not binary.exists():
            return None
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
        (published,) = (self.releases / f"v{said}").glob("only1mcp-*")
        assert published.read_bytes() == binary.read_bytes()
        return said

    def state(self) -> tuple[str | None, str | None]:
        """Return the versions in service and behind it; nothing else may be beside them."""
        names = {file.name for file in self.binary.parent.iterdir()}
        assert names <= {"only1mcp", "only1mcp.backup"}, names
        return self.in_service(), self.version(self.backup)

    def close(self) -> None:
        (self.systemd / "unkillable").unlink(missing_ok=True)
        self._systemctl("kill")
        until(lambda: self.pid is None, 30, "the end of the service")

    def _systemctl(self, verb: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.tools / "systemctl"), verb], env=self.environment, capture_output=True, text=True, check=False
        )

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.environment["DEPLOY_HEALTH_URL"], timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
