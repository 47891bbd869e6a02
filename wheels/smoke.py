"""Run by an interpreter into which a wheel was installed: is it complete, compiled, and able to work?

usage: smoke.py [compiled|plain]    what the wheel must contain; default: compiled
"""

from __future__ import annotations

import importlib.metadata
import sys
import warnings

warnings.simplefilter("ignore", RuntimeWarning)

import only1mcp  # noqa: E402
from only1mcp import _fast  # noqa: E402

wanted = sys.argv[1] if len(sys.argv) > 1 else "compiled"
found = "compiled" if _fast.COMPILED else "plain"
assert found == wanted, f"expected a {wanted} build, found a {found} one"
assert importlib.metadata.version("only1mcp") == only1mcp.__version__

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
print(f"only1mcp {only1mcp.__version__}: the {found} build works on Python {sys.version.split()[0]}, {sys.platform}")
