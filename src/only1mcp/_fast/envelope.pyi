from only1mcp._fast.reference import Envelope as Envelope
from only1mcp._fast.reference import elements as elements
from only1mcp._fast.reference import members as members
from only1mcp._fast.reference import scan as scan
