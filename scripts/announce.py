"""Tells people about a deployment: `python -m scripts.announce issue|message VERSION ENVIRONMENT URL`.

`issue` opens one on GitHub, with `gh` and its GH_TOKEN and GH_REPO. `message` posts to the webhook in ANNOUNCE_WEBHOOK
(Slack's form, which others take too) and does nothing where there is none. `--run` is a link to what did it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import urllib.request

TIMEOUT_S = 60


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.announce", description=__doc__)
    parser.add_argument("how", choices=("issue", "message"))
    parser.add_argument("version")
    parser.add_argument("environment")
    parser.add_argument("url")
    parser.add_argument("--run", default="", help="a link to the run")
    options = parser.parse_args()
    version = options.version.removeprefix("v")
    if options.how == "issue":
        body = f"Version {version} is being deployed to {options.environment} ({options.url}).\n\n{options.run}"
        command = ["gh", "issue", "create", "--title", f"Deployment of {version} to {options.environment}"]
        command += ["--body", body.rstrip(), "--label", "deployment"]
        try:
            done = subprocess.run(command, timeout=TIMEOUT_S, check=False)
        except OSError as error:
            sys.exit(f"gh cannot be run: {error}")
        sys.exit(done.returncode)
    webhook = os.environ.get("ANNOUNCE_WEBHOOK", "")
    if not webhook:
        print("there is no ANNOUNCE_WEBHOOK, so nobody is told")
        return
    text = f"Only1MCP {version} is in service on {options.environment}: {options.url}"
    post(webhook, f"{text} ({options.run})" if options.run else text)


def post(webhook: str, text: str) -> None:
    """Post a message; the address is a secret and appears nowhere."""
    if not webhook.startswith(("https://", "http://127.0.0.1:")):
        sys.exit("ANNOUNCE_WEBHOOK must be an https:// address")
    request = urllib.request.Request(webhook, json.dumps({"text": text}).encode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            pass
    except (OSError, ValueError) as error:
        sys.exit(f"the webhook did not take the message: {getattr(error, 'code', type(error).__name__)}")


if __name__ == "__main__":
    main()
