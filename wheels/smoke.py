"""Run by an interpreter into which a wheel was installed: is it complete, compiled, and does it start, answer and stop?

usage: smoke.py [compiled|plain]    what the wheel must contain; default: compiled
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import json
import os
import sys
import sysconfig
import warnings
from pathlib import Path

warnings.simplefilter("ignore", RuntimeWarning)
sys.path.append(str(Path(__file__).resolve().parent))

import first_call  # noqa: E402

import only1mcp  # noqa: E402
from only1mcp import _fast  # noqa: E402

wanted = sys.argv[1] if len(sys.argv) > 1 else "compiled"
found = "compiled" if _fast.COMPILED else "plain"
assert found == wanted, f"expected a {wanted} build, found a {found} one"
assert importlib.metadata.version("only1mcp") == only1mcp.__version__
# What is tested is what was installed, not the sources that happen to be near.
package = Path(only1mcp.__file__).parent
editable = json.loads(importlib.metadata.distribution("only1mcp").read_text("direct_url.json") or "{}").get("dir_info")
assert editable or package.parent in {Path(sysconfig.get_path(name)) for name in ("platlib", "purelib")}, package

suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
for library in package.rglob(f"*{suffix}"):
    path = library.relative_to(package.parent)
    module = importlib.import_module(".".join([*path.parts[:-1], path.name.removesuffix(suffix)]))
    assert module.__file__ is not None
    assert library.samefile(module.__file__), f"{module.__name__} was loaded from {module.__file__}"

message = b'{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"echo","arguments":{"n":1.50}}}'
envelope = _fast.scan(message)
assert (envelope.kind, envelope.id, envelope.method) == (_fast.REQUEST, b'"a"', "tools/call")
assert envelope.name is not None
assert message[slice(*envelope.name)] == b'"echo"'
assert _fast.Ring([("one", 100)]).lookup(b"key") == "one"
cache = _fast.LRU(10_000)
assert cache.store(b"key", b"value", 1000, 0)
assert cache.lookup(b"key", 999) == b"value"
counters = _fast.Counters(1)
counters.add(0, 2)
assert counters.get(0) == 2

command = Path(sysconfig.get_path("scripts"), "only1mcp.exe" if os.name == "nt" else "only1mcp")
first_call.first_call([command])
print(f"only1mcp {only1mcp.__version__}: the {found} build works on Python {sys.version.split()[0]}, {sys.platform}")
