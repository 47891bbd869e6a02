"""The `__main__` of the static binary: nothing is imported but what is in it, then the command line runs.

`-m MODULE` runs one of the programs that the proxy starts as children of its own, as `python -m` would.
"""

from __future__ import annotations

import _imp
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAMS = ("only1mcp.backend.guard_main", "only1mcp.demo.http", "only1mcp.demo.stdio")


class Builtin:
    """Finds built-in modules inside packages, too, where the interpreter's own finder looks at the top level only."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, BuiltinImporter, origin="built-in") if _imp.is_builtin(name) else None


class WithData:
    """Finds the frozen packages that have files beside their modules, and reads those files."""

    def __init__(self, data: dict[str, dict[str, bytes]]) -> None:
        self._data = data

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        if name not in self._data:
            return None
        spec = FrozenImporter.find_spec(name, path, target)
        if spec is not None:
            spec.loader = DataLoader(self._data[name])  # type: ignore[arg-type]
        return spec


class DataLoader:
    """Loads a package as the frozen one that it is; `importlib.resources` finds the files."""

    create_module = staticmethod(FrozenImporter.create_module)
    exec_module = staticmethod(FrozenImporter.exec_module)

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def get_resource_reader(self, name: str) -> Any:
        import io
        from importlib.resources.abc import ResourceReader

        files = self._files

        class Reader(ResourceReader):
            def open_resource(self, resource: str) -> io.BytesIO:
                try:
                    return io.BytesIO(files[resource])
                except KeyError:
                    raise FileNotFoundError(resource) from None

            def resource_path(self, resource: str) -> str:
                raise FileNotFoundError(resource)

            def is_resource(self, resource: str) -> bool:
                return resource in files

            def contents(self) -> list[str]:
                return list(files)

        return Reader()


def main(data: dict[str, dict[str, bytes]]) -> None:
    """Run the command line, or one of our own programs."""
    sys.path[:] = []
    sys.path_hooks[:] = []
    sys.meta_path[:] = [Builtin, WithData(data), FrozenImporter]
    sys.frozen = True  # type: ignore[attr-defined]
    if sys.argv[1:2] == ["-m"] and sys.argv[2:3] and sys.argv[2] in PROGRAMS:
        import runpy

        name = sys.argv[2]
        del sys.argv[1:3]
        runpy.run_module(name, run_name="__main__", alter_sys=True)
        sys.exit(0)
    from only1mcp.cli import main as command_line

    sys.exit(command_line())
