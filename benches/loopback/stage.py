"""The processes of the benchmark: the backend, nginx and Only1MCP in front of it, and the load that is put on them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.processes import Process, descendants, free_port

HERE = Path(__file__).parent
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
WRK = shutil.which("wrk")
LOAD_TIMEOUT_S = 120.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

NGINX_CONF = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
{user}
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 75s;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream backend {{ server {backend}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


def backend(directory: Path, octets: int, era: str) -> Process:
    command = [sys.executable, "-m", "benches.loopback.backend", str(octets), era]
    return Process(command, directory / "backend.log")


def nginx(directory: Path, backend_url: str) -> tuple[Process, str]:
    """Start nginx with one worker; return it and the URL at which it proxies the backend."""
    assert NGINX is not None
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX_CONF.format(directory=directory, user=user, backend=urlsplit(backend_url).netloc, port=port)
    (directory / "nginx.conf").write_text(text)
    command = [NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log")]
    return Process(command, directory / "nginx.log"), f"http://127.0.0.1:{port}/mcp"


def pin(pid: int, cpus: set[int]) -> None:
    """Keep a process and all below it to some CPUs, so that what is measured is not moved about."""
    for each in [pid, *descendants(pid)]:
        for thread in Path(f"/proc/{each}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cpus)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and everything below it has used, also what has ended already."""
    return sum(_ticks(each) for each in [pid, *descendants(pid)]) / TICKS_PER_SECOND


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(ticks) for ticks in fields[11:15])  # utime, stime, cutime, cstime


def load_with_wrk(url: str, calls: Path, connections: int, seconds: int, cpus: set[int]) -> dict[str, Any]:
    """Put load on a URL and return what wrk counted."""
    assert WRK is not None
    script = str(HERE / "load.lua")
    return _counted([WRK, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, url, "--", str(calls)], cpus)


def load_with_asyncio(url: str, calls: Path, connections: int, seconds: int, cpus: set[int]) -> dict[str, Any]:
    """Put load on a URL with the generator of our own."""
    parts = urlsplit(url)
    command = [sys.executable, "-m", "benches.loopback.load", str(calls), str(parts.hostname), str(parts.port)]
    return _counted([*command, parts.path, str(connections), str(seconds)], cpus)


def _counted(command: list[str], cpus: set[int]) -> dict[str, Any]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        os.sched_setaffinity(process.pid, cpus)
        try:
            output, _ = process.communicate(timeout=LOAD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    found = re.search(r"^\{.*\}$", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the load generator failed: {output[-2000:]}")
    report: dict[str, Any] = json.loads(found.group())
    return report
