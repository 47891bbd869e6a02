from only1mcp._fast.counters_reference import Counters as Counters
from only1mcp._fast.counters_reference import Histogram as Histogram
