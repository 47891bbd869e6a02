"""Compiles the Python modules of the static binary, and writes what main.c needs: tables.h, modules.S, modules.bin."""

from __future__ import annotations

import marshal
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# Parts of the standard library that no server needs, or that need modules which are not in the binary.
LEFT_OUT = frozenset(
    [
        "__phello__",
        "_pyrepl",
        "antigravity",
        "ctypes",
        "curses",
        "dbm",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "msilib",
        "multiprocessing",
        "pip",
        "pydoc",
        "pydoc_data",
        "site",
        "sitecustomize",
        "sqlite3",
        "test",
        "this",
        "tkinter",
        "turtle",
        "turtledemo",
        "unittest",
        "venv",
        "xmlrpc",
    ]
)
HERE = Path(__file__).parent


def write(folder: Path, roots: Sequence[Path], builtin: Sequence[str], initializer: Callable[[str], str]) -> None:
    """Write the three files; a module that is both in `builtin` and below a root is taken from `builtin`."""
    found = {name: file for name, file in modules(Path(sysconfig.get_path("stdlib"))) if top(name) not in LEFT_OUT}
    for root in roots:
        found |= dict(modules(root))
    packages = {name: file.parent for name, file in found.items() if file.name == "__init__.py"}
    data = {name: files for name, folder in packages.items() if (files := beside(folder))}
    code = {
        name: (compiled(name, file), file.name == "__init__.py") for name, file in found.items() if name not in builtin
    }
    boot = (HERE / "boot.py").read_text(encoding="utf-8") + f"\n\nmain({data!r})\n"
    code["__main__"] = (marshal.dumps(compile(boot, "<only1mcp>", "exec", dont_inherit=True)), False)

    offset = 0
    frozen, blob = [], []
    for name, (octets, package) in sorted(code.items()):
        frozen.append(
            f'{{.name = "{name}", .code = CODE + {offset}, .size = {len(octets)}, .is_package = {int(package)}}},'
        )
        blob.append(octets)
        offset += len(octets)
    (folder / "modules.bin").write_bytes(b"".join(blob))
    (folder / "modules.S").write_text(
        f'.section .rodata\n.balign 16\n.global CODE\nCODE:\n.incbin "{folder / "modules.bin"}"\n'
        '.section .note.GNU-stack, "", %progbits\n'
    )
    functions = [initializer(name) for name in builtin]
    lines = [
        "extern const unsigned char CODE[];",
        "static const struct _frozen FROZEN[] = {",
        *frozen,
        "{0}};",
        *(f"extern PyObject *{function}(void);" for function in functions),
        "static struct _inittab BUILTIN[] = {",
        *(f'{{"{name}", {function}}},' for name, function in zip(builtin, functions, strict=True)),
        "{0}};",
    ]
    (folder / "tables.h").write_text("\n".join(lines) + "\n")


def top(name: str) -> str:
    return name.partition(".")[0]


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the names and files of all modules below a folder of packages."""
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts and all(part.isidentifier() for part in parts):
            yield ".".join(parts), file


def beside(folder: Path) -> dict[str, bytes]:
    """Return the data files of a package."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix in (".yaml", ".json")}


def compiled(name: str, file: Path) -> bytes:
    shown = name.replace(".", "/") + ("/__init__.py" if file.name == "__init__.py" else ".py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of code that is not ours
        return marshal.dumps(compile(file.read_bytes(), shown, "exec", dont_inherit=True))
