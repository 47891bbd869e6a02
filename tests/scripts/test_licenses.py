"""Licences are read from what packages say, and what is not allowed, or not known, is refused."""

from __future__ import annotations

import importlib
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest
from scripts import licenses
from scripts.licenses import expression_of, is_allowed, judge


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages that is looked in first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(folder: Path, name: str, *metadata: str) -> Distribution:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("\n".join([f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0", *metadata]) + "\n")
    importlib.invalidate_caches()
    return PathDistribution(info)


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("LGPL-2.1-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("(MIT OR GPL-2.0-only) AND (GPL-2.0-only OR AGPL-3.0-only)", False),
        ("MIT OR GPL-2.0-only AND AGPL-3.0-only", True),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("Apache-2.0 WITH LLVM-exception OR MIT", True),
        ("LicenseRef-Proprietary", False),
    ],
)
def test_what_an_expression_allows(expression: str, allowed: bool) -> None:
    assert is_allowed(expression) is allowed


@pytest.mark.parametrize(
    ("metadata", "expression"),
    [
        (["License-Expression: mit or gpl-3.0-only"], "MIT OR GPL-3.0-only"),
        (["License: BSD-3-Clause"], "BSD-3-Clause"),
        (["License: MIT License"], "MIT"),
        (["Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (
            [
                "License: see the file",
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: Apache Software License",
            ],
            "Apache-2.0 AND MIT",
        ),
        (
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
            ],
            None,
        ),
        (["License: whatever you like"], None),
        ([], None),
    ],
)
def test_what_packages_say(tmp_path: Path, metadata: list[str], expression: str | None) -> None:
    found = judge(install(tmp_path, "one", *metadata))
    assert found.expression == expression
    assert (found.problem is None) == (expression not in (None, "GPL-3.0-only"))


def test_the_gate(environment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(licenses, "PACKAGE", "gate-root")
    monkeypatch.setattr(licenses, "COMPILED_IN", ())
    install(
        environment,
        "gate-root",
        "License-Expression: GPL-3.0-only",  # it is its own business
        "Requires-Dist: gate-one[more]>=1",
        'Requires-Dist: gate-absent; sys_platform == "elsewhere"',
        'Requires-Dist: gate-tool; extra == "dev"',
        "Provides-Extra: dev",
    )
    install(
        environment,
        "gate-one",
        "License-Expression: MIT",
        'Requires-Dist: gate-two; extra == "more"',
        "Requires-Dist: gate-root",
        "Provides-Extra: more",
    )
    two = install(environment, "gate-two", "License-Expression: ISC")
    licenses.main()
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("ok")] == ["gate-one", "gate-two"]
    assert "not looked at: gate-absent" in out

    metadata = environment / "gate_two-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("ISC", "AGPL-3.0-only"))
    assert expression_of(two) == "AGPL-3.0-only"
    with pytest.raises(SystemExit, match="to mend"):
        licenses.main()
    assert "FAILED  gate-two 1.0: AGPL-3.0-only is not allowed" in capsys.readouterr().out


def test_what_is_not_installed_cannot_be_passed_over(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licenses, "PACKAGE", "gate-root")
    install(environment, "gate-root", "Requires-Dist: gate-nowhere")
    with pytest.raises(SystemExit, match="gate-nowhere is needed and not installed"):
        licenses.main()


def test_what_we_distribute_may_be_distributed(capsys: pytest.CaptureFixture[str]) -> None:
    licenses.main()
    out = capsys.readouterr().out
    assert "FAILED" not in out
    assert "orjson" in out
