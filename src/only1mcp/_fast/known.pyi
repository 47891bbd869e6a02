from only1mcp._fast.framing_reference import KnownHead as KnownHead
