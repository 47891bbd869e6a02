"""The container image: what is in it, and that it serves as its numeric user with nothing that can be written to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from tests.backend.test_http import make_certificate
from tests.e2e.processes import Process, Proxy, free_port, http_status, until

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef" * 4
READY_S = 20.0

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("buildah") is None,
    reason="needs root and buildah (Debian: apt-get install buildah)",
)


class Image:
    """The built image: its configuration, and its files, mounted so that nobody can write to them."""

    def __init__(self, config: dict[str, object], root: Path) -> None:
        self.config = config
        self.root = root

    def command(self, *words: str, mounts: dict[str, Path], env: dict[str, str] | None = None) -> list[str]:
        """Return how to run a command of the image as an engine would, in a read-only root; no words: the default."""
        given = dict(one.split("=", 1) for one in self.config["Env"]) | (env or {})
        words = words or (*self.config["Entrypoint"], *self.config["Cmd"])
        bind = "".join(f"mount --bind '{source}' '{self.root}{target}'; " for target, source in mounts.items())
        script = (
            f"set -e; mount --make-rprivate /; mount --bind '{self.root}' '{self.root}'; {bind}"
            f"mount -o remount,bind,ro '{self.root}'; exec chroot --userspec={self.config['User']} '{self.root}' \"$@\""
        )
        environment = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in given.items())]
        return ["unshare", "--mount", *environment, "/bin/sh", "-c", script, "sh", *words]


@pytest.fixture(scope="session")
def image(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    for above in (folder, folder.parent):
        above.chmod(0o755)
    # overlay file systems do not nest, and a sandbox has no runtime of its own: plain copies, and chroot for RUN
    buildah = ["buildah", "--storage-driver", "vfs", "--root", str(folder / "s"), "--runroot", str(folder / "r")]

    def run(*words: str) -> str:
        done = subprocess.run([*buildah, *words], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    arguments = ["--isolation", "chroot", "--format", "docker", "--build-arg", "REVISION=abc"]
    made = subprocess.run(
        ["make", "image", f"BUILDER={' '.join(buildah)}", f"IMAGE_ARGS={' '.join(arguments)}", "IMAGE=only1mcp-test"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    container = run("from", "--pull-never", "only1mcp-test")
    try:
        inspected = json.loads(run("inspect", "--type", "image", "only1mcp-test"))
        yield Image(inspected["Docker"]["config"], Path(run("mount", container)))
    finally:
        run("umount", container)
        run("rm", container)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A folder with the configuration, as it is mounted into a container."""
    folder = tmp_path / "etc"
    folder.mkdir()
    for above in (tmp_path, tmp_path.parent):
        above.chmod(0o755)
    return folder


def test_what_it_says_of_itself(image: Image) -> None:
    config = image.config
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/only1mcp"]
    assert config["Cmd"] == ["start"]
    assert set(config["ExposedPorts"]) == {"8080/tcp", "9090/tcp"}
    assert config["Healthcheck"]["Test"][:3] == ["CMD", "/only1mcp", "status"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if "opencontainers" in name}
    assert labels["licenses"] == "MIT"
    assert labels["revision"] == "abc"
    version = subprocess.run(
        image.command("/only1mcp", "--version", mounts={}), capture_output=True, text=True, check=True
    ).stdout
    assert version == f"only1mcp {labels['version']} (compiled)\n"


def test_it_holds_two_files(image: Image) -> None:
    files = [path for path in image.root.rglob("*") if not path.is_dir()]
    assert sorted(str(path.relative_to(image.root)) for path in files) == [
        "etc/ssl/certs/ca-certificates.crt",
        "only1mcp",
    ]
    assert not any(path.stat().st_mode & 0o022 for path in files)
    authorities = (image.root / "etc/ssl/certs/ca-certificates.crt").read_text(encoding="utf-8")
    assert authorities.count("BEGIN CERTIFICATE") > 50


def test_it_serves_read_only_and_is_healthy_while_it_does(image: Image, config: Path, tmp_path: Path) -> None:
    port = free_port()
    values = {
        "version": "1.0",
        "proxy": {"port": port},
        "metrics": {"enabled": False},
        "auth": {"api_keys": [{"name": "laptop", "key_env": "LAPTOP_API_KEY"}]},
        "servers": [{"id": "own", "transport": "stdio", "command": "/only1mcp", "args": ["-m", "only1mcp.demo.stdio"]}],
    }
    (config / "config.yaml").write_text(json.dumps(values))
    (image.root / "etc" / "only1mcp").mkdir(exist_ok=True)
    mounts = {"/etc/only1mcp": config}
    url = f"http://127.0.0.1:{port}/mcp"
    health = image.command(*image.config["Healthcheck"]["Test"][1:], mounts=mounts, env={"ONLY1MCP_URL": url})
    with Process(image.command(mounts=mounts, env={"LAPTOP_API_KEY": TOKEN}), tmp_path / "log") as proxy:
        until(lambda: http_status(url.replace("/mcp", "/ready")) == 200, READY_S, "ready")
        assert f"listens on http://127.0.0.1:{port}/mcp" in proxy.output
        call = image.command(
            "/only1mcp", "call", "--url", url, "--token", TOKEN, "echo", '{"text":"hi"}', mounts=mounts
        )
        assert "hi" in subprocess.run(call, capture_output=True, text=True, timeout=30, check=True).stdout
        assert subprocess.run(health, capture_output=True, timeout=30, check=False).returncode == 0
    assert proxy.wait() == 0
    assert subprocess.run(health, capture_output=True, timeout=30, check=False).returncode != 0


def test_backends_over_https_are_verified_by_the_authorities_in_it(
    image: Image, binary: Path, config: Path, tmp_path: Path
) -> None:
    make_certificate(tmp_path, "127.0.0.1")
    for name in ("ca.pem", "key.pem"):
        (tmp_path / name).chmod(0o644)
    upstream = {"id": "own", "transport": "stdio", "command": str(binary), "args": ["-m", "only1mcp.demo.stdio"]}
    tls = {"enabled": True, "cert": str(tmp_path / "ca.pem"), "key": str(tmp_path / "key.pem")}
    with _Tls(tmp_path / "tls", [upstream], program=[str(binary)], proxy={"tls": tls}) as behind:
        behind.wait_for_line(r"^try it")
        values = {
            "version": "1.0",
            "metrics": {"enabled": False},
            "servers": [{"id": "tls", "transport": "http", "url": f"https://127.0.0.1:{behind.port}/mcp"}],
        }
        (config / "config.yaml").write_text(json.dumps(values))
        (image.root / "etc" / "only1mcp").mkdir(exist_ok=True)
        outcome = []
        for more in ({}, {"/etc/ssl/certs/ca-certificates.crt": tmp_path / "ca.pem"}):
            words = image.command(
                "/only1mcp", "test", mounts={"/etc/only1mcp": config, **more}, env={"ONLY1MCP_HOST": ""}
            )
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            outcome.append(
                (done.returncode == 0, "certificate" in done.stdout + done.stderr, done.stdout + done.stderr)
            )
        assert outcome[0][:2] == (False, True), outcome[0]
        assert outcome[1][0], outcome[1]


class _Tls(Proxy):
    """A proxy that speaks TLS, whose readiness the test waits for by its banner."""

    def __enter__(self) -> Self:
        return self
