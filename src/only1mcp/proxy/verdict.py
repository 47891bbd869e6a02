"""What was made of a request's head, so that the same head need not be judged again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from only1mcp.frontend.origin import OriginPolicy
    from only1mcp.wire.classify import Routing
    from only1mcp.wire.http1_events import Headers
    from only1mcp.wire.mcp import Era


class Verdict:
    """On a POST whose Host, Origin, path and media types have passed; who sends it is asked every time.

    `judged` says whether the headers have been asked for the era, which is `era`; `routing` is what `routing_of` made
    of them where it is stateless.
    """

    __slots__ = ("cors", "era", "judged", "origin", "path", "routing")

    def __init__(self, origin: OriginPolicy, path: bytes, cors: Headers) -> None:
        self.origin = origin
        self.path = path
        self.cors = cors
        self.judged = False
        self.era: Era | None = None
        self.routing: Routing | None = None
