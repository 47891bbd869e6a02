"""Makes wheels as they should be, without a compiler: a test then spoils one thing."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

from wheels import content, sbom

VERSION = "1.2.3"
INFO = f"only1mcp-{VERSION}.dist-info/"
TAG = "cp311-cp311-manylinux_2_28_x86_64"
SUFFIX = ".cpython-311-x86_64-linux-gnu.so"
SBOM = f"{INFO}sboms/only1mcp.cdx.json"


def sources(root: Path) -> Path:
    """Make a small tree of sources and return it."""
    package = root / "src" / "only1mcp"
    (package / "_fast").mkdir(parents=True)
    (package / "proxy").mkdir()
    for name in ("__init__.py", "py.typed", "_fast/ring.pyx", "_fast/ring.pyi", "_fast/octets.pxd", "proxy/call.py"):
        (package / name).write_text(f"# {name}\n")
    (package / "proxy/call.pxd").write_text("")
    (root / "LICENSE").write_text("As you like.\n")
    (root / "pyproject.toml").write_text(
        "[project]\nlicense = 'MIT'\nlicense-files = ['LICENSE']\ndependencies = ['h11>=0.16']\n"
        "scripts = {only1mcp = 'only1mcp.cli:main'}\n[tool.setuptools.package-data]\nonly1mcp = ['py.typed']\n"
    )
    return root


def files(root: Path, tag: str = TAG) -> dict[str, bytes]:
    """Return what a wheel of these sources has in it, but for RECORD."""
    package = {
        path.relative_to(root / "src").as_posix(): path.read_bytes()
        for path in (root / "src").rglob("*")
        if path.suffix in (".py", ".pyi", ".typed")
    }
    compiled = not tag.endswith("any")
    libraries = {f"{name}{SUFFIX}": b"\x7fELF" for name in content.compiled_sources(root)} if compiled else {}
    about = {"name": "only1mcp", "version": VERSION, "license": "MIT", "summary": "One"}
    bill = sbom.document(about, ["h11>=0.16"], {"Cython": "3.3.1"} if compiled else {}, 0)
    metadata = (
        f"Metadata-Version: 2.4\nName: only1mcp\nVersion: {VERSION}\nLicense-Expression: MIT\nLicense-File: LICENSE\n"
        "Requires-Dist: h11>=0.16\nProvides-Extra: dev\nRequires-Dist: ruff; extra == 'dev'\n\n# Only1MCP\n"
    )
    pure = str(not compiled).lower()
    return {
        **package,
        **libraries,
        f"{INFO}METADATA": metadata.encode(),
        f"{INFO}WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {pure}\nTag: {tag}\n\n".encode(),
        f"{INFO}entry_points.txt": b"[console_scripts]\nonly1mcp = only1mcp.cli:main\n",
        f"{INFO}top_level.txt": b"only1mcp\n",
        f"{INFO}licenses/LICENSE": (root / "LICENSE").read_bytes(),
        SBOM: bill,
    }


def record(contents: dict[str, bytes]) -> bytes:
    """Return the RECORD of these files."""
    rows = []
    for name, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join([*rows, f"{INFO}RECORD,,\n"]).encode()


def wheel(folder: Path, contents: dict[str, bytes], tag: str = TAG) -> Path:
    """Write a wheel with these files and a RECORD, if they do not bring one."""
    path = folder / f"only1mcp-{VERSION}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {f"{INFO}RECORD": record(contents), **contents}.items():
            archive.writestr(name, data)
    return path
