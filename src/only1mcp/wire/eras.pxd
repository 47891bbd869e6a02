from only1mcp._fast.envelope cimport Envelope


cpdef _progress_token(bytes data, tuple meta)
