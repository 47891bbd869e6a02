from only1mcp._fast.envelope cimport Envelope


cpdef bytes result(bytes id, bytes value)
cpdef str decode_string(bytes data, tuple span)
cpdef bytes replace_id(Envelope message, bytes id)
