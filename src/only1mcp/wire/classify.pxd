from only1mcp._fast.envelope cimport Envelope
from only1mcp.wire.http1_events cimport RequestHead


cpdef era_of_headers(RequestHead head)
cpdef str check_stateless(RequestHead head, Envelope message)
cpdef _compare(RequestHead head, bytes name, str expected)
cpdef _maybe_plain(RequestHead head, Envelope message, tuple version)
