"""The client that the conformance suite is told to run: the official SDK's, with a proxy between the two.

The suite starts a server, appends its URL to the command and names the scenario in the environment; what it sees is
what the proxy makes of that client. `python -m tests.e2e.conformance_client PYTHON MODE URL`: PYTHON has the SDK, MODE
is the SDK's and says which era the client is of, whatever the server is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.e2e import third_party
from tests.e2e.gateway import http_backend
from tests.e2e.processes import Proxy, until

CLIENT = third_party.ROOT / "tests" / "e2e" / "clients" / "python_client.py"
CLIENT_TIMEOUT_S = 60.0
BACKEND_START_S = 15.0

Step = tuple[str, dict[str, Any]]
LISTS: list[Step] = [(f"{each}/list", {}) for each in ("tools", "resources", "resources/templates", "prompts")]
# What no client may call; this one tries.
INVALID = (
    "invalid_empty_header",
    "invalid_object_header",
    "invalid_array_header",
    "invalid_null_header",
    "invalid_duplicate_same_case",
    "invalid_duplicate_diff_case",
    "invalid_space_in_name",
    "invalid_colon_in_name",
    "invalid_non_ascii_name",
    "invalid_control_char_name",
)


def call(name: str, **arguments: Any) -> Step:
    return "tools/call", {"name": name, "arguments": arguments}


STEPS: dict[str, list[Step]] = {
    "tools_call": [call("add_numbers", a=5, b=3)],
    "elicitation-sep1034-client-defaults": [call("test_client_elicitation_defaults")],
    "sse-retry": [call("test_reconnection")],
    "sep-2322-client-request-state": [
        call("test_mrtr_echo_state"),
        call("test_mrtr_unrelated"),
        call("test_mrtr_no_state"),
        call("test_mrtr_unrelated"),
        call("test_mrtr_no_result_type"),
    ],
    "http-standard-headers": [
        call("test_headers"),
        call("my-hyphenated-tool"),
        ("resources/read", {"uri": "file:///path/to/file%20name.txt"}),
        ("resources/read", {"uri": "https://example.com/resource?id=123"}),
        ("prompts/get", {"name": "test_prompt"}),
    ],
    "http-invalid-tool-headers": [
        call("valid_tool", region="us-west1"),
        *(call(name, value="x", data={}, items=[], nil=None, field1="x", field2="y") for name in INVALID),
    ],
}


def main() -> None:
    python, mode, url = sys.argv[1:]
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    with (
        tempfile.TemporaryDirectory(prefix="only1mcp-conformance-") as directory,
        Proxy(Path(directory), [http_backend("suite", url)]) as proxy,
    ):
        wait_for_backend(proxy)
        steps = STEPS.get(scenario, []) + [("tools/call", each) for each in context.get("toolCalls", [])]
        listed, *results = run_client(python, mode, proxy.url, [*LISTS, *steps])
        if scenario == "json-schema-2020-12-preservation":
            (schema,) = [tool["inputSchema"] for tool in listed if tool["name"] == "json_schema_2020_12_tool"]
            results += run_client(python, mode, proxy.url, [call("json_schema_echo", schema=schema)])
        print(json.dumps([listed, *results], indent=1))
        print(proxy.output)


def wait_for_backend(proxy: Proxy) -> None:
    def is_up() -> bool:
        with urlopen(f"{proxy.origin}/ready", timeout=5) as answer:
            return all(each["state"] == "up" for each in json.load(answer)["backends"])

    until(is_up, BACKEND_START_S, "the backend up")


def run_client(python: str, mode: str, url: str, steps: list[Step]) -> list[Any]:
    plan = {"url": url, "mode": mode, "steps": steps, "accepts": True}
    done = subprocess.run(
        [python, str(CLIENT)],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)["steps"]
    return found


if __name__ == "__main__":
    main()
