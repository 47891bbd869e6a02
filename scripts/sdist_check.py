"""Build the source distribution, install it in fresh environments with and without a compiler, and use each."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What is in the environment of the installation, whether it must succeed, and what it then contains.
CASES = (
    ("with a compiler", {"ONLY1MCP_EXTENSIONS": "require"}, "compiled"),
    ("without extensions", {"ONLY1MCP_EXTENSIONS": "skip"}, "plain"),
    ("without a compiler", {"CC": "/bin/false", "CXX": "/bin/false"}, "plain"),
    ("without a compiler, but required", {"ONLY1MCP_EXTENSIONS": "require", "CC": "/bin/false"}, None),
)


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {key: value for key, value in os.environ.items() if key not in ("ONLY1MCP_EXTENSIONS", "CC", "PYTHONPATH")}
    return subprocess.run(
        [str(word) for word in command],
        env={**base, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        built = run(sys.executable, "-m", "build", "--sdist", "--outdir", scratch, ROOT)
        if built.returncode:
            print(built.stdout, built.stderr)
            return 1
        (sdist,) = Path(scratch).glob("*.tar.gz")
        failures = 0
        for number, (name, environment, contains) in enumerate(CASES):
            home = Path(scratch, f"venv{number}")
            venv.create(home, with_pip=True)
            python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
            result = run(python, "-m", "pip", "install", "--no-cache-dir", sdist, **environment)
            if contains is not None and result.returncode == 0:
                result = run(python, "-I", ROOT / "wheels" / "smoke.py", contains)
            passed = (result.returncode == 0) == (contains is not None)
            print(f"{'passed' if passed else 'FAILED'}  {name}: {(result.stdout.strip().splitlines() or [''])[-1]}")
            if not passed:
                failures += 1
                print(result.stdout, result.stderr)
        return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
