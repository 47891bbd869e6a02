"""Writes the bill of materials of a wheel: CycloneDX 1.7 in JSON, for `.dist-info/sboms/` (PEP 770).

It is written at build time from what the package declares, so it needs nothing but what builds the wheel. What is
declared is not in the wheel: it is external, with the range that is accepted. What is in it beside our own code is the
runtime support that Cython puts into every module that it compiles.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name
from packaging.version import Version

FILE_NAME = "only1mcp.cdx.json"
SCHEMA = "http://cyclonedx.org/schema/bom-1.7.schema.json"
MARKER = "only1mcp:environment_marker"
# The same comparators in the syntax of `vers:` ranges; the others of PEP 440 have none.
COMPARATORS = {">=": ">=", ">": ">", "<=": "<=", "<": "<", "==": "", "!=": "!="}


def document(
    package: Mapping[str, str], requires: Iterable[str], inside: Mapping[str, str], epoch_s: int | None
) -> bytes:
    """Return the bill of the `package` (its name, version, license and summary).

    `requires` are PEP 508 requirements; `inside` names what else is in the wheel, with versions. Equal arguments give
    equal bytes: the moment is that of the sources, or not said.
    """
    root = f"pkg:pypi/{canonicalize_name(package['name'])}@{package['version']}"
    declared = [_external(Requirement(text)) for text in requires]
    components = sorted(
        [*declared, *(_inside(name, version) for name, version in inside.items())], key=lambda one: one["bom-ref"]
    )
    metadata: dict[str, Any] = {
        "lifecycles": [{"phase": "build"}],
        "component": {
            "type": "application",
            "bom-ref": root,
            "name": package["name"],
            "version": package["version"],
            "description": package["summary"],
            "licenses": [{"license": {"id": package["license"]}}],
            "purl": root,
        },
    }
    if epoch_s is not None:
        moment = dt.datetime.fromtimestamp(epoch_s, dt.UTC)
        metadata["timestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    bill = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "version": 1,
        "metadata": metadata,
        "components": components,
        "dependencies": [
            {"ref": root, "dependsOn": [one["bom-ref"] for one in components]},
            *({"ref": one["bom-ref"]} for one in components),
        ],
    }
    return json.dumps(bill, indent=2, ensure_ascii=False).encode() + b"\n"


def _external(requirement: Requirement) -> dict[str, Any]:
    url = f"pkg:pypi/{canonicalize_name(requirement.name)}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": url,
        "name": requirement.name,
        "isExternal": True,
        "scope": "required",
        "versionRange": vers(requirement),
        "purl": url,
    }
    if requirement.marker is not None:
        component["properties"] = [{"name": MARKER, "value": str(requirement.marker)}]
    return component


def _inside(name: str, version: str) -> dict[str, Any]:
    url = f"pkg:pypi/{canonicalize_name(name)}@{version}"
    return {
        "type": "library",
        "bom-ref": url,
        "name": name,
        "version": version,
        "scope": "required",
        "purl": url,
        "description": "generated the compiled modules, which contain its runtime support",
    }


def vers(requirement: Requirement) -> str:
    """Return the accepted versions as a `vers:` range; raise `ValueError` where that syntax cannot say it."""

    def by_version(one: Specifier) -> Version:
        return Version(one.version)

    for one in requirement.specifier:
        if one.operator not in COMPARATORS or "*" in one.version:
            raise ValueError(f"{requirement}: {one} cannot be written as a vers: range, use >=, >, <=, <, == or !=")
    parts = [f"{COMPARATORS[one.operator]}{one.version}" for one in sorted(requirement.specifier, key=by_version)]
    return f"vers:pypi/{'|'.join(parts) or '*'}"
