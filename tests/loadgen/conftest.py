"""What the tests of the load generator share: loads of a server on loopback, on both event loops."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.backend.hostile import HostileServer

from only1mcp.backend.target import parse_target
from only1mcp.loadgen.engine import Progress, Run, run
from only1mcp.loadgen.plan import Plan

try:
    from uvloop import new_event_loop
except ImportError:  # Windows
    from winloop import new_event_loop

BOTH_LOOPS = frozenset({"test_connection.py", "test_client.py", "test_engine.py"})


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in BOTH_LOOPS:
        factories["uvloop"] = new_event_loop
    return factories


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody has signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    tmp_path.joinpath("cert.pem").write_bytes(signed.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    tmp_path.joinpath("key.pem").write_bytes(secret)
    return tmp_path / "cert.pem", tmp_path / "key.pem"


def plan_for(url: str, **options: Any) -> Plan:
    """A plan of four requests over one connection, without looking for the era, unless told otherwise."""
    plan = Plan(url, parse_target(url), connections=1, duration_s=None, requests=4, era="stateless", timeout_s=5.0)
    return replace(plan, **options)


async def load(server: HostileServer, on_progress: Callable[[Progress], None] | None = None, **options: Any) -> Run:
    """Load a server that is running."""
    return await run(plan_for(f"http://127.0.0.1:{server.port}/mcp", **options), lambda _: None, on_progress)


def kinds(run: Run) -> dict[tuple[str, str], int]:
    """How many requests failed in which way."""
    return {key: sample.count for key, sample in run.recorder.failures.items()}
