"""Only1MCP: one MCP endpoint in front of any number of MCP servers.

A request walks through the folders in this order and back:

frontend   faces clients: listeners, connections, sessions
proxy      decides: authenticate, admit, classify, route, call, finish
backend    faces MCP servers: one transport an endpoint, kept alive

Beside them: `wire` (bytes to messages and back, no I/O, no clock), `_fast` (its compiled parts), `config` (one frozen
value), `process` (event loop, signals, logs), `cli` (commands) and `demo` (two small MCP servers to try it with).
"""

__version__ = "0.1.0"
