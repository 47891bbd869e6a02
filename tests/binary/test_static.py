"""The static binary as its user meets it: alone in an empty root, and in front of real servers."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripts import measure_install
from tests.e2e.processes import Process, descendants, free_port, is_alive, until
from tests.readme import way_to_install

ROOT = Path(__file__).parents[2]
SIZE_LIMIT = 45_000_000
NOBODY = 65532
GONE_S = 10.0
CHROOT = shutil.which("chroot", path=os.defpath + ":/usr/sbin:/sbin") or ""
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the static binary is for Linux")
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not CHROOT, reason="chroot needs root"
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in os.environ if one.startswith("ONLY1MCP_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def empty(binary: Path, tmp_path: Path) -> Path:
    """A root with the binary in it and nothing else, in which only its owner may write."""
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(binary, root / "only1mcp")
    root.chmod(0o755)
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        above.chmod(above.stat().st_mode | 0o111)
    return root


def inside(root: Path, *arguments: str) -> list[str]:
    return [CHROOT, f"--userspec={NOBODY}:{NOBODY}", str(root), "/only1mcp", *arguments]


@pytest.fixture
def run(empty: Path) -> Run:
    """Run a command in the empty root, with nothing in the environment, as a user who may not write there."""

    def command(*arguments: str, env: dict[str, str] | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/usr/bin/env", "-i", *(f"{k}={v}" for k, v in (env or {}).items()), *inside(empty, *arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **more,
        )

    return command


@contextmanager
def demo(command: list[str], log: Path) -> Iterator[tuple[Process, str]]:
    with Process([*command, "start", "--demo", "--port", "0"], log) as proxy:
        url = proxy.wait_for_line(r"listens on (\S+)$")[1]
        proxy.wait_for_line(r"^try it")
        yield proxy, url


def test_it_is_one_file_that_loads_nothing(binary: Path) -> None:
    assert binary.stat().st_size <= SIZE_LIMIT
    headers = subprocess.run(["readelf", "-lW", binary], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in headers
    assert "DYN (" in headers  # position-independent: its address is random
    dynamic = subprocess.run(["readelf", "-dW", binary], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" not in dynamic


def test_it_holds_no_path_of_the_machine_it_was_built_on(binary: Path) -> None:
    octets = binary.read_bytes()
    assert str(ROOT).encode() not in octets
    assert f"{Path.home()}/.cargo".encode() not in octets


def test_nothing_outside_has_a_say_in_what_is_run(binary: Path, tmp_path: Path) -> None:
    for name in ("only1mcp", "click", "encodings", "sitecustomize", "usercustomize", "json"):
        (tmp_path / f"{name}.py").write_text("print('taken over')")
    env = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "json.py")}
    env |= {"LD_PRELOAD": "/nonexistent.so", "LD_LIBRARY_PATH": str(tmp_path), "PYTHONMALLOC": "nonsense"}
    done = subprocess.run([binary, "--version"], env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("(compiled)\n")
    assert done.stderr == ""


@needs_root
def test_every_command_works_in_an_empty_root(run: Run, empty: Path, tmp_path: Path) -> None:
    assert run("--version").stdout.endswith("(compiled)\n")
    assert "start" in run("--help").stdout
    (empty / "etc").mkdir()
    os.chown(empty / "etc", NOBODY, NOBODY)
    assert run("config", "init", "/etc/only1mcp.yaml").returncode == 0
    assert (empty / "etc" / "only1mcp.yaml").read_text().startswith("#")
    schema = run("config", "schema")
    assert json.loads(schema.stdout)["$schema"]

    config = {
        "version": "1.0",
        "metrics": {"enabled": False},
        "servers": [{"id": "own", "transport": "stdio", "command": "/only1mcp", "args": ["-m", "only1mcp.demo.stdio"]}],
    }
    (empty / "c.yaml").write_text(json.dumps(config))
    (empty / "c.yaml").chmod(0o644)
    assert run("validate", "/c.yaml").stdout == "OK: /c.yaml, 1 server\n"
    assert json.loads(run("config", "show", "--config", "/c.yaml", "--json").stdout)
    tested = run("test", "--config", "/c.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr

    asked = [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "1"},
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "hä"}}},
    ]
    launched = subprocess.run(
        inside(empty, "stdio", "--config", "/c.yaml"),
        input="".join(json.dumps(one) + "\n" for one in asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(launched.stdout.splitlines()[-1])["result"]["content"][0]["text"] == "hä"

    with demo(inside(empty), tmp_path / "log") as (proxy, url):
        assert "demo-stdio  stdio      up" in proxy.output
        assert "demo-http   http       up" in proxy.output
        assert run("status", "--url", url).returncode == 0
        assert "echo" in run("list", "--url", url).stdout
        assert "hello" in run("call", "--url", url, "echo", '{"text":"hello"}').stdout
        bench = run("benchmark", url, "--tool", 'echo={"text":"x"}', "-d", "1s", "-c", "2", "--json")
        assert bench.returncode == 0, bench.stdout + bench.stderr
        below = descendants(proxy.pid)
        assert len(below) >= 3, below  # the two demo servers and the guard
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
    until(lambda: not any(map(is_alive, below)), GONE_S, "the children are gone")
    assert sorted(one.name for one in empty.iterdir()) == ["c.yaml", "etc", "only1mcp"]


def test_the_command_in_the_readme_starts_it(binary: Path, tmp_path: Path) -> None:
    name, *arguments = way_to_install("dist/only1mcp-linux-x86_64")
    assert name.replace("x86_64", platform.machine()) == str(binary.relative_to(ROOT))
    env = {"ONLY1MCP_PORT": "0", "ONLY1MCP_METRICS_PORT": "0"}
    with Process([str(binary), *arguments], tmp_path / "log", env=env) as proxy:
        url = proxy.wait_for_line(r"listens on (\S+)$")[1]
        proxy.wait_for_line(r"^try it")
        (pasted,) = re.findall(rf"^  (\S+ call --url {re.escape(url)} .*)$", proxy.output, re.MULTILINE)
        assert subprocess.run(pasted, shell=True, capture_output=True, timeout=30, check=True).stdout == b"hello\n"


@needs_root
def test_it_is_measured_as_it_is_used(binary: Path) -> None:
    row = measure_install.measure(binary, 1)
    assert (row["artifact"], row["size_bytes"]) == (binary.name, binary.stat().st_size)
    assert 0 < row["start_ms"] < row["first_call_ms"]
    assert row["verified"].startswith("alone in an empty root, as user 65532; ")


def test_ctrl_c_ends_it_and_nothing_is_left(binary: Path, tmp_path: Path) -> None:
    before = set(Path("/tmp").iterdir())
    with demo([str(binary)], tmp_path / "log") as (proxy, _):
        below = descendants(proxy.pid)
        proxy.signal(signal.SIGINT)
        assert proxy.wait() == 0
    until(lambda: not any(map(is_alive, below)), GONE_S, "the children are gone")
    assert not [one for one in set(Path("/tmp").iterdir()) - before if "only1mcp" in one.name or "MEI" in one.name]


@pytest.fixture
def environment_server(tmp_path: Path) -> Path:
    """A stdio server of another program (the tests' Python) that tells its environment."""
    script = tmp_path / "server.py"
    script.write_text(
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    if 'id' not in asked: continue\n"
        "    method, result = asked['method'], {}\n"
        "    if method == 'initialize':\n"
        "        result = {'protocolVersion': asked['params']['protocolVersion'], 'capabilities': {'tools': {}},\n"
        "                  'serverInfo': {'name': 'env', 'version': '1'}}\n"
        "    elif method == 'tools/list':\n"
        "        result = {'tools': [{'name': 'env', 'inputSchema': {'type': 'object'}}]}\n"
        "    elif method == 'tools/call':\n"
        "        result = {'content': [{'type': 'text', 'text': json.dumps(dict(os.environ))}]}\n"
        "    else:\n"
        "        result = None\n"
        "    answer = {'result': result} if result is not None else {'error': {'code': -32601, 'message': 'no'}}\n"
        "    print(json.dumps({'jsonrpc': '2.0', 'id': asked['id'], **answer}), flush=True)\n"
    )
    return script


def test_children_get_the_environment_as_it_was_and_die_with_it(
    binary: Path, environment_server: Path, tmp_path: Path
) -> None:
    port = free_port()
    config = {
        "version": "1.0",
        "proxy": {"port": port},
        "metrics": {"enabled": False},
        "servers": [{"id": "env", "transport": "stdio", "command": sys.executable, "args": [str(environment_server)]}],
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    given = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LANG": "C"}
    command = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in given.items()), str(binary)]
    with Process([*command, "start", "--config", str(tmp_path / "c.yaml")], tmp_path / "log") as proxy:
        proxy.wait_for_line(r"^try it")
        asked = [str(binary), "call", "--url", f"http://127.0.0.1:{port}/mcp", "env", "--json"]
        told = json.loads(subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout)
        environment = json.loads(told["content"][0]["text"])
        environment.pop("LC_CTYPE", None)  # the child's own Python sets it under LANG=C
        assert environment == given
        below = descendants(proxy.pid)
        assert any("guard_main" in line for line in below.values()), below
        proxy.signal(signal.SIGKILL)
        proxy.wait()
        until(lambda: not any(map(is_alive, below)), GONE_S, "the guard ends the child and itself")
