from only1mcp._fast.envelope cimport Envelope
from only1mcp.wire.http1_events cimport ResponseHead


cpdef Envelope maybe_response(ResponseHead head, bytes body, bytes id)
