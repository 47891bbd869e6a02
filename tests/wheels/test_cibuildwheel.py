"""What cibuildwheel makes of our configuration: which wheels, from what, built, repaired, audited and tested how."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.wheels.available import available
from wheels import environments
from wheels.environments import ROOT
from wheels.targets import LINUX, MACOS, WINDOWS

PYTHONS = ("cp311", "cp312", "cp313", "cp314")
MACHINES = {
    "linux": ("manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"),
    "macos": ("macosx_x86_64", "macosx_arm64"),
    "windows": ("win_amd64", "win_arm64"),
}
# Its own reading of every option, for one wheel of each kind.
OPTIONS = """
import json, sys
from pathlib import Path
from cibuildwheel.options import CommandLineArguments, compute_options
from cibuildwheel.platforms import ALL_PLATFORM_MODULES, get_build_identifiers
arguments = CommandLineArguments.defaults()
arguments.config_file, arguments.platform, arguments.package_dir = sys.argv[1], sys.argv[2], Path(sys.argv[3])
options = compute_options(sys.argv[2], arguments, env={})
found = {}
chosen = options.globals
for identifier in get_build_identifiers(ALL_PLATFORM_MODULES[sys.argv[2]], chosen.build_selector, chosen.architectures):
    one = options.build_options(identifier)
    found[identifier] = {
        "before_build": one.before_build, "test": one.test_command, "audit": one.audit_command,
        "repair": one.repair_command, "frontend": [one.build_frontend.name, *one.build_frontend.args],
        "environment": one.environment.as_dictionary({}),
        "manylinux": one.manylinux_images, "musllinux": one.musllinux_images,
    }
print(json.dumps(found))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def programs() -> Path:
    return available(environments.tools)


@pytest.mark.parametrize("platform", MACHINES)
def test_there_is_a_wheel_for_every_python_on_every_machine(programs: Path, platform: str) -> None:
    command = [programs / "cibuildwheel", "--print-build-identifiers", "--platform", platform]
    config = ["--config-file", str(ROOT / "cibuildwheel.toml"), str(ROOT)]
    done = subprocess.run([*command, *config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(
        f"{python}-{machine}" for python in PYTHONS for machine in MACHINES[platform]
    )


def options(programs: Path, platform: str) -> dict[str, Any]:
    command = [programs / "python", "-c", OPTIONS, ROOT / "cibuildwheel.toml", platform, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("platform", MACHINES)
def test_each_is_built_with_what_is_locked_and_audited_and_used(programs: Path, platform: str) -> None:
    found = options(programs, platform)
    assert len(found) == len(PYTHONS) * len(MACHINES[platform])
    for one in found.values():
        assert one["frontend"] == ["build", "--no-isolation"]
        assert "--require-hashes" in one["before_build"]
        assert one["environment"]["ONLY1MCP_EXTENSIONS"] == "require"
        assert one["audit"] == ["python {package}/wheels/content.py {wheel}"]
        assert one["test"] == "python {package}/wheels/smoke.py"
        for command in (one["before_build"], *one["audit"], one["test"]):
            named = next(word for word in command.split() if word.startswith("{package}/"))
            assert (ROOT / named.removeprefix("{package}/")).is_file()


def test_linux_wheels_are_what_the_local_builder_makes_too(programs: Path) -> None:
    for one in options(programs, "linux").values():
        assert "--only-plat" in one["repair"]
        for images, kind in ((one["manylinux"], "manylinux_2_28"), (one["musllinux"], "musllinux_1_2")):
            for machine in ("x86_64", "aarch64"):
                assert f"/{kind}_{machine}@sha256:" in images[machine], images[machine]
                assert f"{kind}_{machine}" in LINUX


def test_each_other_machine_has_its_compiler_check() -> None:
    assert set(WINDOWS) == set(MACHINES["windows"])
    assert {f"macosx_{name.split('_', 3)[-1]}" for name in MACOS} == set(MACHINES["macos"])
