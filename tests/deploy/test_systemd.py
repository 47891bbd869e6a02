"""The unit for systemd is one that systemd takes, starts what there is, and gives it little."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from only1mcp.config.schema import Timeouts

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "only1mcp.service"
LAUNCHER = Path(sys.executable).with_name("only1mcp")
# Of 10; 2 is what systemd calls OK. What is left is the network, and /proc and devices for backends.
EXPOSURE = 2.0

analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian: systemd)")


@pytest.fixture
def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser["Service"]


@analyze
def test_systemd_takes_it(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/usr/local/bin/only1mcp", str(LAUNCHER)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", here], capture_output=True, text=True, check=False)
    # Units of this machine that it depends on may have faults of their own.
    told = [line for line in (done.stdout + done.stderr).splitlines() if "only1mcp" in line]
    assert (done.returncode, told) == (0, [])


@analyze
def test_a_fault_would_be_seen(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/usr/local/bin/only1mcp", "only1mcp/not/absolute"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", here], capture_output=True, text=True, check=False)
    assert done.returncode != 0


@analyze
def test_it_gives_the_service_little() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", UNIT]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("needs systemd 250 or newer")
    assert done.returncode == 0, done.stdout[-500:]


def test_the_command_is_one_of_ours(unit: configparser.SectionProxy) -> None:
    program, *arguments = shlex.split(unit["ExecStart"])
    assert program == "/usr/local/bin/only1mcp"
    arguments[arguments.index("--config") + 1] = "/nowhere/at/all"
    done = subprocess.run([LAUNCHER, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "no such file" in done.stderr) == (3, True), done.stderr


def test_the_paths_are_those_of_the_deployment_script(unit: configparser.SectionProxy) -> None:
    script = (UNIT.parents[2] / "scripts" / "deploy.sh").read_text()
    defaults = dict(re.findall(r"^ +(DEPLOY_\w+)=\$\{\1:-(.*)\}$", script, re.MULTILINE))
    program, *arguments = shlex.split(unit["ExecStart"])
    assert defaults["DEPLOY_BINARY"] == program
    assert defaults["DEPLOY_CONFIG"] == arguments[-1]
    assert defaults["DEPLOY_ENVIRONMENT_FILE"] == unit["EnvironmentFile"].removeprefix("-")
    assert defaults["DEPLOY_USER"] == unit["User"]
    assert f"{defaults['DEPLOY_UNIT']}.service" == UNIT.name


def test_it_may_take_longer_to_stop_than_calls_may_take_to_end(unit: configparser.SectionProxy) -> None:
    script = (UNIT.parents[2] / "scripts" / "deploy.sh").read_text()
    (patience,) = re.findall(r"DEPLOY_STOP_TIMEOUT_S:-(\d+)", script)
    assert Timeouts().drain_s < float(unit["TimeoutStopSec"].removesuffix("s")) < float(patience)
