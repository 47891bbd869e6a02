"""Asks PyPI's advisories about everything installed here: `python -m scripts.audit PIP_AUDIT` judges what it reports.

pip-audit passes over what it cannot look up and then reports that nothing is known. Here that is a failure with
`--require`, and without it a message; a known vulnerability fails always.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
from typing import Any

TIMEOUT_S = 600
OURS = "only1mcp"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.audit", description=__doc__)
    parser.add_argument("pip_audit", help="the pip-audit to run")
    parser.add_argument("--require", action="store_true", help="fail where not every package could be looked up")
    options = parser.parse_args()
    command = [options.pip_audit, "--path", sysconfig.get_path("purelib"), "--format", "json"]
    command += ["--skip-editable", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        if options.require:
            sys.exit(f"pip-audit did not report:\n{done.stderr[-3000:]}")
        print(f"skipped: the advisories cannot be reached ({(done.stderr.strip().splitlines() or ['no reason'])[-1]})")
        return
    failures, passed_over, looked_up = judge(report)
    for line in failures:
        print(f"FAILED  {line}")
    if passed_over:
        print(
            f"{'FAILED' if options.require else 'skipped'}: PyPI's JSON API does not tell of {len(passed_over)}"
            f" packages: {', '.join(passed_over)}"
        )
    print(f"{looked_up} packages looked up, {len(failures)} advisories")
    if failures or (options.require and (passed_over or not looked_up)):
        sys.exit(
            "to mend: raise the lower bound of the package in pyproject.toml to the version with the fix, or, if"
            " there is none, take another package; say in the changelog, under Security, whom it concerned"
        )


def judge(report: dict[str, Any]) -> tuple[list[str], list[str], int]:
    """Return a line for each advisory, the packages that could not be looked up, and how many could."""
    failures: list[str] = []
    passed_over: list[str] = []
    looked_up = 0
    for package in report["dependencies"]:
        if "skip_reason" in package:
            if package["name"] != OURS:
                passed_over.append(package["name"])
            continue
        looked_up += 1
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            failures.append(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
    return failures, passed_over, looked_up


if __name__ == "__main__":
    main()
