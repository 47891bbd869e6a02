"""The compiled parts, or their plain-Python twins where no compiler was at hand."""

from only1mcp._fast.reference import Envelope, elements, members, scan

__all__ = ["Envelope", "elements", "members", "scan"]
