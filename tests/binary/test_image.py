"""The container image: what is in it, and that it serves as its numeric user with nothing that can be written to."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest
from scripts import measure_install
from scripts.image import Image
from tests.backend.test_http import make_certificate
from tests.e2e.processes import Process, Proxy, free_port, http_status, until
from tests.readme import way_to_install

from only1mcp import __version__

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef" * 4
READY_S = 20.0

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("buildah") is None,
    reason="needs root and buildah (Debian: apt-get install buildah)",
)


@pytest.fixture(scope="session")
def archive(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as `make image` makes it, around the binary of this working tree."""
    folder = tmp_path_factory.mktemp("image")
    # overlay file systems do not nest, and a sandbox has no runtime of its own: plain copies, and chroot for RUN
    buildah = f"buildah --storage-driver vfs --root {folder}/s --runroot {folder}/r"
    arguments = "--isolation chroot --format docker --build-arg REVISION=abc"
    for command in (
        [*way_to_install("make", "image"), f"BUILDER={buildah}", f"IMAGE_ARGS={arguments}", "IMAGE=only1mcp-test"],
        [*buildah.split(), "push", "--quiet", "only1mcp-test", f"docker-archive:{folder}/image.tar:only1mcp-test:1"],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "image.tar"


@pytest.fixture(scope="session")
def image(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("unpacked")
    for above in (folder, folder.parent):
        above.chmod(0o755)
    return Image(archive, folder / "root")


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
    version = subprocess.run(image.command("/only1mcp", "--version"), capture_output=True, text=True, check=True).stdout
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
    # What docker is told in the README, but for the network, which is ours here.
    volume, name = read_only(*way_to_install("docker", "run")[2:])
    assert name == "only1mcp"
    mounts = {volume: config / "config.yaml"}
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


def read_only(*words: str) -> tuple[str, str]:
    """Return what `docker run` with these arguments would mount something at, and of which image."""
    parser = argparse.ArgumentParser()
    for flag in ("--rm", "--read-only"):
        parser.add_argument(flag, action="store_true", required=True)
    for option in ("-p", "-v"):
        parser.add_argument(option, required=True)
    parser.add_argument("image")
    given = parser.parse_args(words)
    _, place, mode = given.v.split(":")
    assert (given.p, mode) == ("8080:8080", "ro")
    return place, given.image


def test_it_is_measured_as_it_is_used(archive: Path, binary: Path) -> None:
    row = measure_install.measure(archive, 1)
    assert row["artifact"] == f"only1mcp-test:{__version__}"
    assert 0 < row["size_bytes"] - binary.stat().st_size < 1_000_000
    assert 0 < row["start_ms"] < row["first_call_ms"]
    assert row["verified"].startswith("the image's files in a root that nobody can write to, as its user 65532:65532; ")


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
