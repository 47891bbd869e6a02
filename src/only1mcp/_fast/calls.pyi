from only1mcp._fast.calls_reference import CallText as CallText
from only1mcp._fast.calls_reference import maybe_call as maybe_call
