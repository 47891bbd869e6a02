"""Installs the other gateways into build/peers, each Python one on its own: `python -m benches.peers.install`.

Which and in which versions is in `requirements/` and `node/`. What cannot be installed gets a reason instead, which
becomes its row in the table.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / "build" / "peers"
NODE = INSTALLED / "node"
TIMEOUT_S = 600


class NotInstalled(Exception):
    """A package could not be installed; the message says why, in one line."""


def python_package(name: str) -> Path:
    """Install `requirements/NAME.txt`, if that is not done yet, and return the directory of its commands."""
    wanted = HERE / "requirements" / f"{name}.txt"
    directory = INSTALLED / name
    with_mark = directory / ".installed"
    if not with_mark.exists() or with_mark.read_text() != wanted.read_text():
        shutil.rmtree(directory, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(directory))
        python = str(directory / "bin" / "python")
        _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted))
        with_mark.write_text(wanted.read_text())
    return directory / "bin"


def node_package(name: str) -> Path:
    """Install `node/package-lock.json`, if that is not done yet, and return the command of one of its packages."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("npm is not installed")
    lock = (HERE / "node" / "package-lock.json").read_text()
    mark = NODE / ".installed"
    if not mark.exists() or mark.read_text() != lock:
        shutil.rmtree(NODE, ignore_errors=True)
        NODE.mkdir(parents=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "node" / file, NODE)
        _run(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(NODE))
        mark.write_text(lock)
    return NODE / "node_modules" / ".bin" / name


def version(registry: str, name: str) -> str:
    """Return the version that is asked for."""
    if registry == "PyPI":
        return (HERE / "requirements" / f"{name}.txt").read_text().strip().partition("==")[2]
    found: str = json.loads((HERE / "node" / "package.json").read_text())["dependencies"][name]
    return found


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"{' '.join(command[:4])} took more than {TIMEOUT_S} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotInstalled(lines[-1][:200] if lines else f"{command[0]} ended with {done.returncode}")


def main() -> None:
    from benches.peers.gateways import PEERS

    for peer in PEERS:
        try:
            peer.program()
            print(f"{peer.name} {peer.version}: installed")
        except NotInstalled as reason:
            print(f"{peer.name} {peer.version}: {reason}")


if __name__ == "__main__":
    main()
