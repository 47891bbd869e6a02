from only1mcp._fast.envelope cimport Envelope
from only1mcp.wire.jsonrpc cimport replace_id


cdef class Outbound:
    cdef public bytes message
    cdef public bytes progress_token


cpdef Outbound to_backend(
    Envelope request, bytes id, client, backend, str revision, caller, tuple replace=*, bytes level=*
)
cpdef tuple to_client(Envelope answer, bytes id, str method, str uri, client, backend, bytes server_info)
cpdef _progress_token(bytes data, tuple meta)
