"""The processes of the benchmark: backends, and the proxies in front of them, each kept to its CPU."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from benches.loopback.cases import OURS
from tests.e2e.processes import Process, Proxy, descendants, free_port, until

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# More than any row opens at once; nginx pays for each at its start.
CONNECTIONS = 4096
STDIO_BACKEND = "benches.loopback.stdio_backend"
# What a process opens besides its connections.
SPARE_FILES = 256
START_S = 20.0

NGINX_CONF = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
{user}
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 75s;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  {upstreams}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://{target};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      {tuning}
    }}
  }}
}}
"""

NGINX_UPSTREAM = "upstream backend{number} {{ server {backend}; keepalive 512; keepalive_requests 1000000000; }}\n"
# Which backend has a tool is said by its name (benches/loopback/backend.py).
NGINX_SPREAD = "map $http_mcp_name $backend {{ '~^work_(?<number>[0-9]+)_' 'backend$number'; }}\n"

HAPROXY_CONF = """
global
  nbthread 1
  maxconn {connections}
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  timeout http-keep-alive 75s
frontend clients
  bind 127.0.0.1:{port} backlog 4096
  default_backend backends
backend backends
  http-reuse always
  server one {backend} pool-max-conn -1
"""


class Stage:
    """What runs for one row; everything on it ends with the `with` block.

    Proxies are kept to one CPU, and all else to the others, so that what is measured has its CPU to itself. `wanted`
    are the proxies that the row shows; one that is not installed stays away, and `absent` says why.
    """

    def __init__(self, directory: Path, wanted: tuple[str, ...]) -> None:
        self.directory = directory
        self.wanted = wanted
        self.absent: dict[str, str] = {}
        cpus = sorted(os.sched_getaffinity(0))
        self.for_proxies, self.for_rest = ({cpus[0]}, set(cpus[1:])) if len(cpus) > 1 else (set(cpus), set(cpus))
        self._stack = ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def backend(self, era: str, **options: int) -> list[str]:
        """Start the backend and return the URLs at which it listens."""
        process = self._start([sys.executable, "-m", "benches.loopback.backend", *_flags(era, options)], "backend")
        process.wait_for_line(r"^all listening$")
        pin(process.pid, self.for_rest)
        return [line.split()[1] for line in process.output.splitlines() if line.startswith("listening ")]

    def others(
        self, backend_url: str, *, nginx: str = "", connections: int = CONNECTIONS
    ) -> dict[str, tuple[int, str]]:
        """Start those proxies that are wanted, but for ours, in front of a backend: name to pid and URL.

        `nginx` are directives that an operator would add for this traffic.
        """
        values = {"backend": urlsplit(backend_url).netloc, "connections": connections}
        found = {}
        if self._has("nginx", NGINX):
            upstreams = NGINX_UPSTREAM.format(number=0, backend=values["backend"])
            found["nginx"] = self._nginx(connections, upstreams, "backend0", tuning=nginx)
        if self._has("haproxy", HAPROXY):
            found["haproxy"] = self._haproxy(**values)
        if "floor" in self.wanted:
            host, _, port = values["backend"].partition(":")
            process = self._start([sys.executable, "-m", "benches.loopback.floor", host, port], "floor")
            found["floor"] = (process.pid, f"http://{process.wait_for_line(r'^listening (.+)$').group(1)}/mcp")
        if "direct" in self.wanted:
            found["direct"] = (0, backend_url)
        for name, (pid, _) in found.items():
            if name != "direct":
                pin(pid, self.for_proxies)
        return found

    def spread(self, backend_urls: list[str]) -> tuple[int, str] | None:
        """Start nginx in front of many backends, each with its own tools; None where it is not installed."""
        if NGINX is None:
            return None
        upstreams = "".join(
            NGINX_UPSTREAM.format(number=number, backend=urlsplit(url).netloc)
            for number, url in enumerate(backend_urls)
        )
        pid, url = self._nginx(CONNECTIONS, NGINX_SPREAD.format() + upstreams, "$backend")
        pin(pid, self.for_proxies)
        return pid, url

    def ours(self, servers: list[dict[str, Any]], **sections: Any) -> tuple[int, str]:
        """Start Only1MCP and return its pid and URL; what it starts itself is not kept to its CPU."""
        self._count += 1
        limits = {"max_connections": 12_000, "max_in_flight": 2000}
        proxy = self._stack.enter_context(
            Proxy(self.directory / f"{OURS}-{self._count}", servers, proxy={"limits": limits}, **sections)
        )
        pin(proxy.pid, self.for_proxies)
        for pid, command in descendants(proxy.pid).items():
            if STDIO_BACKEND in command:
                pin(pid, self.for_rest)
        return proxy.pid, proxy.url

    def run(self, command: list[str], name: str) -> Process:
        """Start something that is not measured, such as a client."""
        process = self._start(command, name)
        pin(process.pid, self.for_rest)
        return process

    def _has(self, name: str, program: str | None) -> bool:
        if name in self.wanted and program is None:
            self.absent[name] = "not installed"
        return name in self.wanted and program is not None

    def _nginx(self, connections: int, upstreams: str, target: str, *, tuning: str = "") -> tuple[int, str]:
        self._count += 1
        port, directory = free_port(), self.directory / f"nginx-{self._count}"
        directory.mkdir()
        conf = directory / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        values = {"directory": directory, "port": port, "user": user, "connections": connections}
        conf.write_text(NGINX_CONF.format(**values, upstreams=upstreams, target=target, tuning=tuning))
        command = [str(NGINX), "-p", str(directory), "-c", str(conf), "-e", str(directory / "error.log")]
        return self._listening(self._start(command, "nginx"), port)

    def _haproxy(self, *, connections: int, **values: Any) -> tuple[int, str]:
        port = free_port()
        conf = self.directory / "haproxy.cfg"
        # It refuses to start where it could not open two files for each connection.
        most = min(connections, most_connections(files_each=2))
        conf.write_text(HAPROXY_CONF.format(port=port, connections=most, **values))
        return self._listening(self._start([str(HAPROXY), "-db", "-f", str(conf)], "haproxy"), port)

    def _listening(self, process: Process, port: int) -> tuple[int, str]:
        def is_listening() -> bool:
            assert process.is_running, f"ended: {process.output}"
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), START_S):
                return True
            return False

        until(is_listening, START_S, "listening")
        return process.pid, f"http://127.0.0.1:{port}/mcp"

    def _start(self, command: list[str], name: str) -> Process:
        self._count += 1
        return self._stack.enter_context(Process(command, self.directory / f"{name}-{self._count}.log"))


def http_server(url: str, id: str = "bench", **more: Any) -> dict[str, Any]:
    return {"id": id, "name": id, "transport": "http", "url": url, **more}


def stdio_server(era: str, **options: int) -> dict[str, Any]:
    args = ["-m", STDIO_BACKEND, *_flags(era, options)]
    return {
        "id": "bench",
        "name": "bench",
        "transport": "stdio",
        "command": sys.executable,
        "args": args,
        "cwd": str(ROOT),
    }


def most_connections(files_each: int = 1) -> int:
    """Return how many connections the limit on open files of this machine leaves to one process."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (1_000_000 if limit == resource.RLIM_INFINITY else limit - SPARE_FILES) // files_each


def pin(pid: int, cpus: set[int]) -> None:
    """Keep a process and all below it to some CPUs, so that what is measured is not moved about."""
    for each in [pid, *descendants(pid)]:
        for thread in Path(f"/proc/{each}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cpus)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and what it started have used, but for stdio backends; 0 for no process."""
    if not pid:
        return 0.0
    below = [each for each, command in descendants(pid).items() if STDIO_BACKEND not in command]
    return sum(_ticks(each) for each in [pid, *below]) / TICKS_PER_SECOND


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and all below it, in megabytes of 10^6 octets."""
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in [pid, *descendants(pid)]]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _flags(era: str, options: dict[str, int]) -> list[str]:
    return ["--era", era, *(word for key, value in options.items() for word in (f"--{key}", str(value)))]


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(ticks) for ticks in fields[11:15])  # utime, stime, cutime, cstime
