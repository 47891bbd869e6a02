from only1mcp._fast.framing_reference import read_request as read_request
from only1mcp._fast.framing_reference import read_response as read_response
