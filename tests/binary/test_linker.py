"""What is kept of an extension module: one object that shows the function that makes the module, and nothing else."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from binary import linker

needs_binutils = pytest.mark.skipif(
    sys.platform != "linux" or not all(map(shutil.which, ("cc", "ld", "objcopy", "nm"))),
    reason="needs gcc and binutils",
)


def test_no_two_modules_share_a_function() -> None:
    names = ["a.b", "a_b", "a._b", "a_.b", "a__b", "a.b.c", "a_2b", "a_1b", "_ab", "ab"]
    made = {linker.initializer(name) for name in names}
    assert len(made) == len(names)
    assert all(re.fullmatch(r"PyInit_\w+", one, re.ASCII) for one in made)


def test_the_module_is_named_by_the_path_below_the_build_folder() -> None:
    suffix = ".cpython-311-x86_64-linux-gnu.so"
    assert linker.module_of(Path(f"build/lib.linux-x86_64-cpython-311/pkg/sub/name{suffix}")) == "pkg.sub.name"
    assert linker.module_of(Path(f"/x/lib.own/pkg/_fast/lru{suffix}")) == "pkg._fast.lru"
    assert linker.module_of(Path(f"build/lib.linux/top{suffix}")) == "top"
    assert linker.module_of(Path("build/lib.a/lib.b/pkg/abi.abi3.so")) == "pkg.abi"


@needs_binutils
def test_symbols_of_two_modules_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = tmp_path / "objects"
    objects.mkdir()
    monkeypatch.setenv("ONLY1MCP_OBJECTS", str(objects))
    for package, value in (("one", 1), ("two", 2)):
        source = tmp_path / f"{package}.c"
        source.write_text(f"int shared(void) {{ return {value}; }} int PyInit_name(void) {{ return shared(); }}")
        subprocess.run(["cc", "-c", "-fPIE", source, "-o", tmp_path / f"{package}.o"], check=True)
        output = tmp_path / "lib.x" / package / "name.cpython-311.so"
        linker.main(["-shared", str(tmp_path / f"{package}.o"), "-lyaml", "-L/nowhere", "-o", str(output)])
        assert output.read_bytes() == b""
        assert (objects / f"{package}.name.libs").read_text() == "-lyaml"
    main = tmp_path / "main.c"
    main.write_text(
        "int PyInit_one_2name(void), PyInit_two_2name(void);\n"
        "int main(void) { return PyInit_one_2name() * 10 + PyInit_two_2name(); }"
    )
    subprocess.run(["cc", main, *objects.glob("*.o"), "-o", tmp_path / "main"], check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 12
    seen = subprocess.run(["nm", "-g", objects / "one.name.o"], capture_output=True, text=True, check=True).stdout
    assert shlex.split(seen)[1:] == ["T", "PyInit_one_2name"]


@needs_binutils
def test_an_object_without_the_module_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int nothing;")
    subprocess.run(["cc", "-c", tmp_path / "a.c", "-o", tmp_path / "a.o"], check=True)
    with pytest.raises(subprocess.CalledProcessError):
        linker.combine("pkg.a", [str(tmp_path / "missing.o")], tmp_path / "pkg.a.o")
