"""Demo: two small MCP servers of both eras that ship with the package, on the standard library alone."""
