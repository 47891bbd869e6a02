"""Backends: the MCP servers we forward to, each endpoint behind one `Transport`."""
