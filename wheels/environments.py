"""Makes the environments that wheels are built in: exact versions whose hashes are known, under build/, once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MADE = ROOT / "build" / "wheels"
INSTALL_TIMEOUT_S = 600


class Failed(Exception):
    """A command failed, or what it made is not as it should be; the message has what it said."""


class NotAvailable(Failed):
    """A tool, a registry or an interpreter is missing on this machine."""


def build_environment(python: str = sys.executable) -> Path:
    """Return an interpreter that has what builds distributions, made from `python`."""
    return _environment("build", python)


def tools() -> Path:
    """Return the folder of the programs that make portable wheels: auditwheel, cibuildwheel, ziglang's interpreter."""
    return _environment("tools", sys.executable).parent


def tag(python: str | Path) -> str:
    """Return what wheels call the interpreter: `cp311`."""
    line = "import sys; print(sys.implementation.cache_tag.replace('cpython-', 'cp'))"
    return run(python, "-I", "-c", line).strip()


def _environment(kind: str, python: str) -> Path:
    lock = HERE / f"{kind}.txt"
    home = MADE / f"{kind}-{tag(python)}"
    installed = home / "bin" / "python"
    mark = home / ".installed"
    digest = hashlib.sha256(lock.read_bytes() + os.path.realpath(python).encode()).hexdigest()
    MADE.mkdir(parents=True, exist_ok=True)
    with (MADE / f".{home.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (mark.exists() and mark.read_text() == digest and installed.exists()):
            shutil.rmtree(home, ignore_errors=True)
            run(python, "-m", "venv", home)
            pip = (installed, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install")
            try:
                run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", lock, timeout_s=INSTALL_TIMEOUT_S)
            except Failed as error:
                raise NotAvailable(f"{lock.name} cannot be installed: {error}") from error
            mark.write_text(digest)
    return installed


def run(
    *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float | None = None
) -> str:
    """Return what the command printed; raise `Failed` with the end of its errors where it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(words[:4])} took more than {timeout_s} s") from None
    except FileNotFoundError:
        raise NotAvailable(f"{words[0]} is not installed") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise Failed(f"{' '.join(words[:4])} failed:\n" + "\n".join(lines[-20:]))
    return done.stdout.decode(errors="replace")
