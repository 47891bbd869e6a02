from only1mcp.wire.http1_events cimport RequestHead


cpdef check_media_types(RequestHead head)
