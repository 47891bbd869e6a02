"""Which modules go into the binary, and that what is written of them is what main.c can use."""

from __future__ import annotations

import marshal
import re
from pathlib import Path

from binary import freeze, linker


def test_modules_are_named_and_other_files_are_not(tmp_path: Path) -> None:
    for name in ("pkg/__init__.py", "pkg/sub/part.py", "top.py", "config-3.11/no.py", "pkg/data.txt", "__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert sorted(name for name, _ in freeze.modules(tmp_path)) == ["pkg", "pkg.sub.part", "top"]


def test_the_tables_hold_every_module_once(tmp_path: Path) -> None:
    root, folder = tmp_path / "root", tmp_path / "out"
    (root / "pkg").mkdir(parents=True)
    folder.mkdir()
    (root / "pkg" / "__init__.py").write_text("X = 1")
    (root / "pkg" / "fast.py").write_text("raise SystemError('the compiled one is used')")
    (root / "pkg" / "data.yaml").write_bytes(b"a: 1\n")
    freeze.write(folder, [root], ["pkg.fast"], linker.initializer)
    tables, blob = (folder / "tables.h").read_text(), (folder / "modules.bin").read_bytes()
    rows = re.findall(r'\{\.name = "([^"]+)", \.code = CODE \+ (\d+), \.size = (\d+), \.is_package = (\d)\}', tables)
    places = {name: (int(start), int(size), package) for name, start, size, package in rows}
    assert len(places) == len(rows) > 200
    assert {"encodings", "asyncio.events", "ssl", "__main__", "pkg"} <= set(places)
    assert places["pkg"][2] == "1"
    assert places["ssl"][2] == "0"
    assert not [name for name in places if name.partition(".")[0] in {"pkg.fast", "test", "tkinter", "ctypes"}]
    assert '{"pkg.fast", PyInit_pkg_2fast},' in tables
    assert sum(size for _, size, _ in places.values()) == len(blob)
    start, size, _ = places["pkg"]
    space: dict[str, object] = {}
    exec(marshal.loads(blob[start : start + size]), space)
    assert space["X"] == 1
    start, size, _ = places["__main__"]
    assert b"a: 1\n" in blob[start : start + size]


def test_no_path_of_this_machine_is_in_the_code(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def f(): pass")
    code = marshal.loads(freeze.compiled("pkg.m", tmp_path / "m.py"))
    assert code.co_filename == "pkg/m.py"
    assert str(tmp_path).encode() not in freeze.compiled("pkg.m", tmp_path / "m.py")
