"""The bill of materials says what was declared, the same every time, in valid CycloneDX."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from packaging.requirements import Requirement
from tests.wheels.available import available
from wheels import environments, sbom

PACKAGE = {"name": "only1mcp", "version": "1.2.3", "license": "MIT", "summary": "One"}
REQUIRES = ["PyYAML>=6.0.1", "uvloop>=0.21; sys_platform != 'win32'", "h11"]
VALIDATE = """
import sys
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_7).validate_str(sys.stdin.read()) or "valid", end="")
"""


def bill(**changes: Any) -> dict[str, Any]:
    arguments = {"requires": REQUIRES, "inside": {"Cython": "3.3.1"}, "epoch_s": 0, **changes}
    document: dict[str, Any] = json.loads(sbom.document(PACKAGE, **arguments))
    return document


def test_what_is_declared_is_external_with_its_range_and_marker() -> None:
    components = {component["name"]: component for component in bill()["components"]}
    assert sorted(components) == ["Cython", "PyYAML", "h11", "uvloop"]
    assert components["PyYAML"]["purl"] == "pkg:pypi/pyyaml"
    assert components["PyYAML"]["versionRange"] == "vers:pypi/>=6.0.1"
    assert components["h11"]["versionRange"] == "vers:pypi/*"
    assert components["uvloop"]["properties"] == [{"name": sbom.MARKER, "value": 'sys_platform != "win32"'}]
    assert all(components[name]["isExternal"] for name in ("PyYAML", "h11", "uvloop"))


def test_what_is_inside_has_its_version() -> None:
    (cython,) = (component for component in bill()["components"] if component["name"] == "Cython")
    assert (cython["version"], cython["purl"]) == ("3.3.1", "pkg:pypi/cython@3.3.1")
    assert "isExternal" not in cython
    assert [component["name"] for component in bill(inside={})["components"]] == ["h11", "PyYAML", "uvloop"]


def test_the_graph_names_each_component_once() -> None:
    document = bill()
    refs = [component["bom-ref"] for component in document["components"]]
    root, *others = document["dependencies"]
    assert root == {"ref": "pkg:pypi/only1mcp@1.2.3", "dependsOn": refs}
    assert [one["ref"] for one in others] == refs


def test_equal_arguments_give_equal_bytes_whatever_their_order() -> None:
    one, other = (sbom.document(PACKAGE, requires, {}, 86_400) for requires in (REQUIRES, REQUIRES[::-1]))
    assert one == other
    assert json.loads(one)["metadata"]["timestamp"] == "1970-01-02T00:00:00Z"
    assert "timestamp" not in bill(epoch_s=None)["metadata"]


@pytest.mark.parametrize(
    ("requirement", "range_"),
    [
        ("a", "vers:pypi/*"),
        ("a==1", "vers:pypi/1"),
        ("a<3,!=2,>=1.10", "vers:pypi/>=1.10|!=2|<3"),
        ("a>=1.9,<1.10", "vers:pypi/>=1.9|<1.10"),
    ],
)
def test_ranges(requirement: str, range_: str) -> None:
    assert sbom.vers(Requirement(requirement)) == range_


@pytest.mark.parametrize("requirement", ["a~=1.4", "a==1.*", "a===1"])
def test_what_a_range_cannot_say_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match="cannot be written as a vers: range"):
        sbom.vers(Requirement(requirement))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_valid() -> None:
    python = available(environments.tools) / "python"

    def verdict(document: bytes) -> str:
        done = subprocess.run([python, "-c", VALIDATE], input=document, capture_output=True, check=True)
        return done.stdout.decode()

    document = sbom.document(PACKAGE, REQUIRES, {"Cython": "3.3.1"}, 0)
    assert verdict(document) == "valid"
    assert verdict(document.replace(b'"library"', b'"librarian"')) != "valid"
